//! Where the pages of older systems look for their server: a port with one or more modes, and their old pages. It
//! refuses whoever is not in a mode's networks, does not know its secret, or comes from another site's page. Nothing of
//! Gatehouse itself is here. Start at [`Site::respond`].

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use url::Url;

use super::clients::Clients;
use super::dispatch::Dispatch;
use super::webrtc_streamer::{self, Streamer};
use super::{pages, socket};
use crate::config::ModeConfig;
use crate::http::Client;
use crate::http::origin;
use crate::http::serve::Place;

/// The largest body of a request, in bytes.
pub const MAX_BODY: usize = 64 * 1024;

/// A mode that is switched on.
pub struct Adapter {
    /// Its configuration.
    pub config: ModeConfig,
    /// What handles its requests.
    pub kind: Kind,
    /// Who is connected.
    pub clients: Clients,
}

/// What handles the requests of a mode.
pub enum Kind {
    /// The numeric-code dispatch protocol.
    Dispatch(Dispatch),
    /// The HTTP API of webrtc-streamer.
    WebrtcStreamer(Box<Streamer>),
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Site {
    adapters: Arc<Vec<Arc<Adapter>>>,
}

/// What a site knows about the request besides the request.
#[derive(Clone, Copy)]
pub struct Around<'a> {
    /// Who sends it.
    pub client: Client,
    /// The current time.
    pub now: SystemTime,
    /// The names of this server.
    pub hosts: &'a [String],
}

impl Site {
    /// With these modes.
    pub fn new(adapters: Vec<Arc<Adapter>>) -> Self {
        Self { adapters: Arc::new(adapters) }
    }

    /// Whether there is anything on it.
    pub fn is_empty(&self) -> bool {
        self.adapters.is_empty()
    }

    /// Answers a request; gives it back if it is for none of the modes.
    pub async fn respond(&self, around: Around<'_>, request: Request) -> Result<Response, Request> {
        let path = request.uri().path().to_owned();
        for adapter in self.adapters.iter() {
            let Some(rest) = adapter.inside(&path) else { continue };
            if adapter.takes(rest) {
                return Ok(adapter.enter(around, rest, request).await);
            }
        }
        for adapter in self.adapters.iter() {
            let (Some(folder), Some(rest)) = (&adapter.config.pages, adapter.inside(&path)) else { continue };
            if !adapter.is_in_network(around.client.ip()) {
                return Ok(not_from_here());
            }
            return Ok(pages::serve(folder, rest, request).await);
        }
        Err(request)
    }
}

fn not_from_here() -> Response {
    refuse(StatusCode::FORBIDDEN, "not_this_network", "this network may not use the older systems")
}

/// A refusal in our own form: none of the old protocols has one for it.
pub fn refuse(status: StatusCode, code: &str, message: &str) -> Response {
    let body = serde_json::json!({ "code": code, "message": message });
    let mut response = (status, axum::Json(body)).into_response();
    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}

impl Adapter {
    /// The path behind the mode's secret.
    fn inside<'p>(&self, path: &'p str) -> Option<&'p str> {
        let Some(secret) = &self.config.secret else { return Some(path) };
        let path = path.strip_prefix('/')?;
        let (first, rest) = path.split_at(path.find('/').unwrap_or(path.len()));
        // Compared as digests: the time that it takes says nothing about the secret.
        let hash = |text: &str| ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        (hash(first).as_ref() == hash(secret.expose()).as_ref()).then_some(rest)
    }

    /// Whether a path is one of this mode's.
    fn takes(&self, path: &str) -> bool {
        match self.kind {
            Kind::Dispatch(_) => path == "/ws",
            Kind::WebrtcStreamer(_) => webrtc_streamer::is_path(path),
        }
    }

    fn is_in_network(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.config.networks.iter().any(|network| network.contains(&ip))
    }

    /// Pages of this host, whatever its port, and those that are listed.
    fn is_known_origin(&self, headers: &HeaderMap, hosts: &[String]) -> bool {
        let Some(value) = headers.get(header::ORIGIN) else { return true };
        let Ok(text) = value.to_str() else { return false };
        if self.config.origins.iter().any(|listed| listed == text) {
            return true;
        }
        let Some(from) = Url::parse(text).ok().and_then(|url| url.host_str().map(str::to_ascii_lowercase))
        else {
            return false;
        };
        origin::host(headers).is_some_and(|host| host == from) || hosts.contains(&from)
    }

    async fn enter(&self, around: Around<'_>, path: &str, request: Request) -> Response {
        if !self.is_in_network(around.client.ip()) {
            return not_from_here();
        }
        if request.method() != Method::OPTIONS && !self.is_known_origin(request.headers(), around.hosts) {
            return refuse(
                StatusCode::FORBIDDEN,
                "foreign_origin",
                "the request comes from another site's page",
            );
        }
        match &self.kind {
            Kind::Dispatch(dispatch) => {
                let dispatch = dispatch.clone();
                self.open_socket(around, request, |socket, client| dispatch.open(socket, client)).await
            }
            Kind::WebrtcStreamer(streamer) => streamer.respond(around, path, request).await,
        }
    }

    /// Upgrades to a WebSocket.
    async fn open_socket<F>(
        &self,
        around: Around<'_>,
        request: Request<Body>,
        serve: impl FnOnce(axum::extract::ws::WebSocket, super::clients::Client) -> F + Send + 'static,
    ) -> Response
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (mut parts, _) = request.into_parts();
        // The connection's place stays taken while the socket is open.
        let place = parts.extensions.get::<Arc<Place>>().cloned();
        let Some(upgrade) = socket::upgrade(&mut parts).await else {
            return refuse(StatusCode::UPGRADE_REQUIRED, "websocket", "WebSocket required");
        };
        let Some(client) = self.clients.enter(self.config.mode, around.client.ip(), around.now) else {
            return refuse(
                StatusCode::SERVICE_UNAVAILABLE,
                "too_many_clients",
                "too many clients of this mode",
            );
        };
        upgrade.on_upgrade(move |socket| async move {
            serve(socket, client).await;
            drop(place);
        })
    }
}
