//! Shared by the tests: a server, simulated cameras, viewers, and waiting for expected events.

pub use crate::sdp::{H264, offer};
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gatehouse::Gatehouse;
use gatehouse::accounts::permissions::{Role, Scopes};
use gatehouse::accounts::users::NewUser;
use gatehouse::config::{Config, Overrides};
use gatehouse::demo::{DemoCamera, DemoOptions};
use gatehouse::names::StreamName;
use gatehouse::secret::Secret;
use gatehouse::streams::packet::{RtpIn, Track};
use gatehouse::streams::source::{Arrival, SourceError};
use gatehouse::streams::status::StreamStatus;
use gatehouse::streams::whep;
use url::Url;

/// Only something broken takes longer.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Waits for a future, but not longer than `LIMIT`.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.unwrap_or_else(|_| panic!("{what}: not within {LIMIT:?}"))
}

/// Polls until `look` returns something.
pub async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < LIMIT, "{what}: not within {LIMIT:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A simulated camera on its own port.
pub async fn camera(options: DemoOptions) -> DemoCamera {
    DemoCamera::start(([127, 0, 0, 1], 0).into(), options).await.unwrap()
}

/// The path of a clip in `tests/cameras`.
pub fn clip(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cameras").join(name)
}

/// `[[camera]]` for the configuration.
pub fn camera_toml(id: &str, url: &str, more: &str) -> String {
    format!("[[camera]]\nid = \"{id}\"\nurl = \"{url}\"\n{more}\n")
}

/// A server with these cameras, on its own port.
pub async fn server(cameras: &str) -> Server {
    server_on("127.0.0.1:0", cameras).await
}

/// A server on an address.
pub async fn server_on(listen: &str, cameras: &str) -> Server {
    server_in(Arc::new(tempfile::tempdir().unwrap()), listen, cameras).await
}

/// A server on an address, with a data folder that outlives it.
pub async fn server_in(data: Arc<tempfile::TempDir>, listen: &str, cameras: &str) -> Server {
    let text = format!("[server]\nlisten = \"{listen}\"\n{cameras}");
    let mut config = Config::parse(&text, "test", data.path(), &Overrides::default()).unwrap();
    config.data = data.path().join("data");
    config.media.listen.get_or_insert((config.listen.ip(), None));
    config.first_password = Some(Secret::new(PASSWORD));
    let gatehouse = Arc::new(Box::pin(Gatehouse::start(&config)).await.unwrap());
    let token = gatehouse.accounts().add_token("admin", "tests", Scopes::ALL, None).await.unwrap();
    Server { gatehouse, data, token: token.expose().to_owned() }
}

/// The password of every user in the tests.
pub const PASSWORD: &str = "violet-41-kettle";

#[derive(Clone)]
pub struct Server {
    pub gatehouse: Arc<Gatehouse>,
    pub data: Arc<tempfile::TempDir>,
    /// A token of the admin with all scopes.
    pub token: String,
}

impl Server {
    /// A client with the admin's token.
    pub fn http(&self) -> reqwest::Client {
        bearer(&self.token)
    }

    /// Adds a user and logs in; returns a client with the cookie and this page's origin.
    pub async fn user(&self, name: &str, role: Role) -> reqwest::Client {
        let new =
            NewUser { name: name.into(), display: String::new(), role, groups: vec![], must_change: false };
        self.gatehouse.accounts().add_user(new, &Secret::new(PASSWORD)).await.unwrap();
        self.log_in(name).await
    }

    /// Logs in.
    pub async fn log_in(&self, name: &str) -> reqwest::Client {
        let body = serde_json::json!({ "name": name, "password": PASSWORD }).to_string();
        let request =
            http().post(self.url("/api/login")).header("content-type", "application/json").body(body);
        let response = request.send().await.unwrap();
        assert!(response.status().is_success(), "{name}: {}", response.status());
        let cookie = response.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
        let origin = self.url("");
        with_headers(&[("cookie", &cookie), ("origin", &origin)])
    }

    /// Requests JSON; fails unless the request succeeds.
    pub async fn get(&self, client: &reqwest::Client, path: &str) -> serde_json::Value {
        let response = client.get(self.url(path)).send().await.unwrap();
        let (status, text) = (response.status(), response.text().await.unwrap());
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Sends JSON; returns the status and the answer, if it is JSON.
    pub async fn send(
        &self,
        client: &reqwest::Client,
        method: &str,
        path: &str,
        body: serde_json::Value,
    ) -> (u16, serde_json::Value) {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let request = client.request(method, self.url(path)).header("content-type", "application/json");
        let response = request.body(body.to_string()).send().await.unwrap();
        let status = response.status().as_u16();
        (status, serde_json::from_str(&response.text().await.unwrap()).unwrap_or_default())
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.gatehouse.address())
    }

    pub fn status(&self, camera: &str) -> Arc<StreamStatus> {
        let stream = StreamName::camera(camera).unwrap();
        self.gatehouse.cameras().stream(&stream).unwrap().status()
    }

    /// Keeps a camera connected without a viewer until its status is `wanted`; returns that status.
    pub async fn wait_for(
        &self,
        camera: &str,
        what: &str,
        wanted: impl Fn(&StreamStatus) -> bool,
    ) -> Arc<StreamStatus> {
        let stream = self.gatehouse.cameras().stream(&StreamName::camera(camera).unwrap()).unwrap();
        let _interest = stream.want().await;
        let mut changes = stream.watch_status();
        let status = within(what, changes.wait_for(|status| wanted(status))).await.unwrap().clone();
        drop(changes);
        status
    }

    /// A viewer that uses the `webrtc` crate.
    pub async fn watch(&self, camera: &str) -> Viewer {
        let url = Url::parse(&self.url(&format!("/whep/camera/{camera}"))).unwrap();
        let token = Secret::new(self.token.as_str());
        self.watch_with(&url, &token).await.unwrap()
    }

    /// A viewer with a given token.
    pub async fn watch_with(&self, url: &Url, token: &Secret) -> Result<Viewer, SourceError> {
        let connecting = Box::pin(whep::WhepConnection::connect(url, Some(token)));
        let session = within("a viewer connects", connecting).await?;
        Ok(Viewer { session: Box::new(session) })
    }
}

pub struct Viewer {
    session: Box<whep::WhepConnection>,
}

impl Viewer {
    /// The next packet of either track.
    pub async fn packet(&mut self) -> RtpIn {
        loop {
            match within("a packet", self.session.next()).await.unwrap() {
                Arrival::Rtp(packet) => return packet,
                Arrival::Clock { .. } => {}
            }
        }
    }

    /// The next packet of video.
    pub async fn video(&mut self) -> RtpIn {
        loop {
            let packet = self.packet().await;
            if packet.track == Track::Video {
                return packet;
            }
        }
    }

    /// Waits for a video packet that is `wanted`.
    pub async fn video_where(&mut self, wanted: impl Fn(&RtpIn) -> bool) -> RtpIn {
        loop {
            let packet = self.video().await;
            if wanted(&packet) {
                return packet;
            }
        }
    }

    /// Where its session is on the server.
    pub fn resource(&self) -> String {
        self.session.resource().unwrap().to_string()
    }

    /// Waits until the connection has ended.
    pub async fn ended(&mut self) -> bool {
        within("the end of the connection", async {
            loop {
                if self.session.next().await.is_err() {
                    return true;
                }
            }
        })
        .await
    }
}

/// Whether a payload is the parameter sets in front of a key frame.
pub fn is_key_start(payload: &[u8]) -> bool {
    payload.first().map(|byte| byte & 0x1f) == Some(24) && payload.get(3).map(|byte| byte & 0x1f) == Some(7)
}

pub fn http() -> reqwest::Client {
    with_headers(&[])
}

/// A client with a token.
pub fn bearer(token: &str) -> reqwest::Client {
    with_headers(&[("authorization", &format!("Bearer {token}"))])
}

/// A client that sends these headers with every request.
pub fn with_headers(headers: &[(&'static str, &str)]) -> reqwest::Client {
    let headers =
        headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
    // Another test may have installed it already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let redirect = reqwest::redirect::Policy::none();
    reqwest::Client::builder().timeout(LIMIT).redirect(redirect).default_headers(headers).build().unwrap()
}
