//! How fast rights end: 1,000 sessions that watch cameras and 10,000 signaling sockets in one server, then one change of
//! a rule that ends all sessions, and one of an account. A benchmark, not a test; server and clients share the cores.
//!
//!     cargo bench --bench rights -- [--sessions 1000] [--sockets 10000]

// A failed `unwrap` is a failed benchmark; the figures go to standard output.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::io::{BufRead, BufReader, Lines, Write};
use std::net::IpAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use futures::StreamExt;
use gatehouse::Gatehouse;
use gatehouse::accounts::permissions::{Role, Scopes};
use gatehouse::accounts::users::NewUser;
use gatehouse::config::{Config, Overrides};
use gatehouse::demo::{DemoCamera, DemoOptions};
use gatehouse::secret::Secret;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

#[path = "../tests/it/sdp.rs"]
mod sdp;

const PASSWORD: &str = "violet-41-kettle";
/// Sockets of one user.
const DEVICES: usize = 8;

fn argument(name: &str, default: usize) -> usize {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.nth(1).map_or(default, |value| value.parse().unwrap())
}

fn config(folder: &Path, camera: &str, allow: &str) -> Config {
    let data = folder.join("data");
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\ndata = {data:?}\nlog = \"error\"\n[tls]\nmode = \"off\"\n\
         [limits]\nconnections = 60000\nconnections_per_address = 60000\nrequests_per_second = 100000\n\
         sessions_per_address = 60000\nsessions_per_account = 60000\n[media]\nmax_viewers = 20000\n\
         [[camera]]\nid = \"demo\"\nurl = {camera:?}\n{allow}\n"
    );
    let mut config = Config::parse(&text, "bench", Path::new("."), &Overrides::default()).unwrap();
    config.first_password = Some(Secret::new(PASSWORD));
    config
}

#[tokio::main]
async fn main() {
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let (sessions, sockets) = (argument("--sessions", 1000), argument("--sockets", 10_000));
    let port = argument("--client", 0);
    if port != 0 {
        return client(port, sockets).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let camera = DemoCamera::start("127.0.0.1:0".parse().unwrap(), DemoOptions::default()).await.unwrap();
    let config = |allow: &str| config(folder.path(), &camera.url(), allow);
    let server = Gatehouse::start(&config("allow = [\"everyone\"]")).await.unwrap();
    let users = make_users(&server, sockets.div_ceil(DEVICES)).await;
    let mut client = Client::start(&server, &users, sockets);
    println!("{}", client.line());
    watch(&server, &users, sessions).await;
    let before = server.engine().sessions();
    let start = Instant::now();
    server.cameras().apply(&config("allow = [\"role:dispatcher\"]")).await.unwrap();
    let took = until_zero(start, || server.engine().sessions()).await;
    println!("a rule is changed: {before} sessions end in {:.0} ms", took.as_secs_f64() * 1e3);

    let start = Instant::now();
    server.accounts().end_everything("u0").await.unwrap();
    let ended = client.line();
    println!("an account ends after {:.0} ms: {ended}", start.elapsed().as_secs_f64() * 1e3);
}

/// A process of its own with the clients' ends of the sockets: one may have too few descriptors for both.
struct Client {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Client {
    fn start(server: &Gatehouse, users: &[(String, String)], sockets: usize) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("--client").arg(server.address().port().to_string());
        command.arg("--sockets").arg(sockets.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        for (cookie, _) in users {
            writeln!(stdin, "{cookie}").unwrap();
        }
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next thing that it says.
    fn line(&mut self) -> String {
        tokio::task::block_in_place(|| self.lines.next().unwrap().unwrap())
    }
}

/// Opens sockets for the users whose cookies stand on standard input, and says when those of the first user have ended.
async fn client(port: usize, count: usize) {
    let cookies: Vec<String> = std::io::stdin().lines().map(Result::unwrap).collect();
    let mut sockets = open_sockets(port, &cookies, count).await;
    println!("{} sockets are open", sockets.len());
    let mut ended = 0;
    for socket in sockets.iter_mut().step_by(cookies.len()) {
        socket.await.unwrap();
        ended += 1;
    }
    let all = sockets.iter().filter(|socket| socket.is_finished()).count();
    println!("its {ended} sockets and {} of others", all - ended);
}

async fn until_zero(start: Instant, count: impl Fn() -> usize) -> Duration {
    while count() > 0 {
        assert!(start.elapsed() < Duration::from_secs(60), "{} are left", count());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    start.elapsed()
}

/// Per user, a login and a token.
async fn make_users(server: &Gatehouse, count: usize) -> Vec<(String, String)> {
    let accounts = server.accounts();
    let port = server.address().port();
    let users = futures::stream::iter(0..count).map(|number| async move {
        let name = format!("u{number}");
        let new = NewUser {
            name: name.clone(),
            display: String::new(),
            role: Role::Member,
            groups: vec![],
            must_change: false,
        };
        accounts.add_user(new, &Secret::new(PASSWORD)).await.unwrap();
        let address = IpAddr::from((number as u32 + (10 << 24)).to_be_bytes());
        let login = accounts.log_in(&name, &Secret::new(PASSWORD), address, "bench").await.unwrap();
        let watch = Scopes { watch: true, ..Scopes::default() };
        let token = accounts.add_token(&name, "bench", watch, None).await.unwrap();
        (format!("gatehouse-{port}={}", login.token.expose()), token.expose().to_owned())
    });
    users.buffered(2).collect().await
}

async fn open_sockets(port: usize, cookies: &[String], count: usize) -> Vec<tokio::task::JoinHandle<()>> {
    let opening = futures::stream::iter(0..count).map(|number| async move {
        let mut request = format!("ws://127.0.0.1:{port}/api/ws").into_client_request().unwrap();
        let headers = request.headers_mut();
        headers.insert("cookie", cookies[number % cookies.len()].parse().unwrap());
        headers.insert("origin", format!("http://127.0.0.1:{port}").parse().unwrap());
        let (socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
        socket
    });
    opening.buffered(32).map(|socket| tokio::spawn(read(socket))).collect().await
}

async fn read<S>(mut socket: S)
where
    S: StreamExt<Item = Result<Message, tokio_tungstenite::tungstenite::Error>> + Unpin,
{
    while let Some(Ok(_)) = socket.next().await {}
}

async fn watch(server: &Gatehouse, users: &[(String, String)], count: usize) {
    let client = reqwest::Client::new();
    let url = format!("http://{}/whep/camera/demo", server.address());
    let (client, url) = (&client, &url);
    let posting = futures::stream::iter(0..count).map(|number| async move {
        let request = client.post(url).bearer_auth(&users[number % users.len()].1);
        let request = request.header("content-type", "application/sdp").body(sdp::offer(sdp::H264));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 201, "{}", response.text().await.unwrap());
    });
    posting.buffer_unordered(16).collect::<Vec<()>>().await;
}
