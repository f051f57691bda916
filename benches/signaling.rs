//! Signaling under load: a benchmark, not a test. It creates accounts, starts the server with them on the first core
//! (if `taskset` is available), and runs the clients on the second: idle connections, ringing, relayed frames, and
//! sockets that are cut.
//!
//!     cargo bench --bench signaling -- [--idle 10000] [--pairs 500] [--seconds 10]

// A failed `unwrap` is a failed benchmark; the figures go to standard output.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{SinkExt, StreamExt};
use gatehouse::accounts::Accounts;
use gatehouse::accounts::permissions::Role;
use gatehouse::accounts::users::NewUser;
use gatehouse::secret::Secret;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

const PASSWORD: &str = "violet-41-kettle";
/// Sockets per user.
const DEVICES: usize = 8;
/// The size of a relayed frame, that of an SDP offer.
const FRAME: usize = 1971;
/// Frames per second and connection.
const RATE: u64 = 10;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

struct Server {
    child: Child,
    port: u16,
    data: tempfile::TempDir,
    /// One cookie per user.
    cookies: Vec<String>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

impl Server {
    async fn start(users: usize) -> Self {
        let data = tempfile::tempdir().unwrap();
        let folder = data.path().join("data");
        std::fs::create_dir_all(&folder).unwrap();
        let cookies = make_accounts(&folder, users).await;
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = data.path().join("gatehouse.toml");
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:{port}\"\nlog = \"error\"\n[tls]\nmode = \"off\"\n[limits]\nconnections = 60000\n\
             connections_per_address = 60000\nrequests_per_second = 100000\n"
        );
        std::fs::write(&config, text).unwrap();
        let mut server = Self {
            child: launch(&config, &folder),
            port,
            data,
            cookies: cookies.into_iter().map(|token| format!("gatehouse-{port}={token}")).collect(),
        };
        server.answers().await;
        server
    }

    async fn answers(&mut self) {
        while TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn start_again(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = launch(&self.data.path().join("gatehouse.toml"), &self.data.path().join("data"));
        self.answers().await;
    }

    /// CPU time in seconds.
    fn cpu(&self) -> f64 {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = text.rsplit_once(") ").unwrap().1.split(' ').collect();
        // Clock ticks are 1/100 s on Linux.
        (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
    }

    /// Resident memory in MB.
    fn resident(&self) -> f64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = text.lines().find(|line| line.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0 / 1e6
    }
}

/// Starts the server on the first core and moves this process to the second.
fn launch(config: &std::path::Path, folder: &std::path::Path) -> Child {
    let program = env!("CARGO_BIN_EXE_gatehouse");
    let pinned = Command::new("taskset").arg("-V").output().is_ok_and(|output| output.status.success());
    let mut command = Command::new(if pinned { "taskset" } else { program });
    if pinned {
        command.args(["-c", "0", program]);
    }
    command.arg("--config").arg(config).arg("--data").arg(folder).stdout(Stdio::null());
    let child = command.spawn().unwrap();
    if pinned {
        let own = std::process::id().to_string();
        let _ = Command::new("taskset").args(["-a", "-cp", "1", &own]).output();
    }
    child
}

async fn make_accounts(folder: &std::path::Path, users: usize) -> Vec<String> {
    let (accounts, _) = Accounts::open(folder, Some(Secret::new(PASSWORD))).await.unwrap();
    let accounts = Arc::new(accounts);
    let cookies = futures::stream::iter(0..users).map(|number| {
        let accounts = accounts.clone();
        async move {
            let name = format!("u{number}");
            let new = NewUser {
                name: name.clone(),
                display: String::new(),
                role: Role::Member,
                groups: vec![],
                must_change: false,
            };
            accounts.add_user(new, &Secret::new(PASSWORD)).await.unwrap();
            let address = std::net::IpAddr::from((number as u32 + (10 << 24)).to_be_bytes());
            let login = accounts.log_in(&name, &Secret::new(PASSWORD), address, "bench").await.unwrap();
            login.token.expose().to_owned()
        }
    });
    cookies.buffered(2).collect().await
}

struct Client {
    socket: Socket,
    session: String,
    last: u64,
}

impl Client {
    async fn connect(server: &Server, user: usize, device: &str, resume: Option<(&str, u64)>) -> Self {
        let url = format!("ws://127.0.0.1:{}/api/ws", server.port);
        let mut request = url.into_client_request().unwrap();
        let origin = format!("http://127.0.0.1:{}", server.port);
        let headers = [
            ("sec-websocket-protocol", "gatehouse.v1"),
            ("cookie", &server.cookies[user]),
            ("origin", &origin),
        ];
        for (name, value) in headers {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        // Small buffers: this process has ten thousand of them, too.
        let config =
            tokio_tungstenite::tungstenite::protocol::WebSocketConfig::default().read_buffer_size(4096);
        let (socket, _) =
            tokio_tungstenite::connect_async_with_config(request, Some(config), true).await.unwrap();
        let mut client = Self { socket, session: String::new(), last: 0 };
        let resume = resume.map(|(session, last)| json!({ "session": session, "last_seq": last }));
        client.send("hello", &json!({ "device": device, "label": "bench", "resume": resume })).await;
        let welcome = client.event("welcome").await;
        client.session = welcome["session"].as_str().unwrap().to_owned();
        client
    }

    async fn send(&mut self, kind: &str, body: &Value) {
        let text = json!({ "type": kind, "body": body }).to_string();
        self.socket.send(Message::Text(text.into())).await.unwrap();
    }

    async fn frame(&mut self) -> Value {
        loop {
            if let Message::Text(text) = self.socket.next().await.unwrap().unwrap() {
                let frame: Value = serde_json::from_str(&text).unwrap();
                if let Some(seq) = frame["seq"].as_u64() {
                    assert_eq!(seq, self.last + 1, "in order, nothing lost");
                    self.last = seq;
                }
                return frame;
            }
        }
    }

    async fn event(&mut self, kind: &str) -> Value {
        loop {
            let frame = self.frame().await;
            if frame["type"] == kind {
                return frame["body"].clone();
            }
        }
    }
}

/// Percentiles of a list of milliseconds.
fn spread(mut values: Vec<f64>) -> String {
    values.sort_by(f64::total_cmp);
    let at = |part: f64| values[((values.len() - 1) as f64 * part) as usize];
    format!(
        "p50 {:.2} ms, p95 {:.2} ms, p99 {:.2} ms, worst {:.2} ms of {}",
        at(0.5),
        at(0.95),
        at(0.99),
        at(1.0),
        values.len()
    )
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

async fn idle(server: &Server, connections: usize) {
    let before = server.resident();
    let (start, cpu) = (Instant::now(), server.cpu());
    let opening = futures::stream::iter(0..connections).map(|number| async move {
        let device = format!("d{}", number % DEVICES);
        Client::connect(server, number / DEVICES, &device, None).await.socket
    });
    let sockets: Vec<Socket> = opening.buffer_unordered(64).collect().await;
    println!(
        "{connections} connections of {} users who all see each other, opened in {:.1} s with {:.1} s of CPU time",
        connections / DEVICES,
        start.elapsed().as_secs_f64(),
        server.cpu() - cpu
    );
    // They read incoming frames and answer pings.
    let readers: Vec<_> = sockets
        .into_iter()
        .map(|mut socket| {
            tokio::spawn(async move { while socket.next().await.is_some_and(|message| message.is_ok()) {} })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let cpu = server.cpu();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let now = server.resident();
    println!(
        "idle: {now:.0} MB in total, {:.1} kB each ({before:.0} MB before), {:.1} % of a core",
        (now - before) * 1e3 / connections as f64,
        (server.cpu() - cpu) * 10.0
    );
    readers.into_iter().for_each(|reader| reader.abort());
}

/// Starts a call for each pair; measures the time from the invitation to ringing.
async fn call(server: &Server, pairs: std::ops::Range<usize>) -> Vec<(Client, Client, u64)> {
    let mut calls = Vec::new();
    let mut rings = Vec::new();
    for pair in pairs {
        let mut anna = Client::connect(server, 2 * pair, "a", None).await;
        let mut bert = Client::connect(server, 2 * pair + 1, "b", None).await;
        let start = Instant::now();
        anna.send("call.invite", &json!({ "to": format!("u{}", 2 * pair + 1), "video": true })).await;
        let call = bert.event("call.incoming").await["call"].as_u64().unwrap();
        rings.push(ms(start));
        bert.send("call.accept", &json!({ "call": call })).await;
        anna.event("call.accepted").await;
        bert.event("call.accepted").await;
        // Otherwise the call ends after 30 s without media.
        bert.send("call.connected", &json!({ "call": call })).await;
        anna.event("call.connected").await;
        calls.push((anna, bert, call));
    }
    println!("invitation to ringing: {}", spread(rings));
    calls
}

/// Both sides send at a steady rate; each frame has its number and its send time.
async fn relay(server: &Server, calls: Vec<(Client, Client, u64)>, seconds: u64) {
    let clock = Instant::now();
    let frames = seconds * RATE;
    let connections = calls.len() * 2;
    let cpu = server.cpu();
    let talks = calls.into_iter().enumerate().map(|(pair, (anna, bert, call))| {
        let offset = Duration::from_micros(pair as u64 * 97 % 100_000);
        tokio::spawn(async move {
            let one = tokio::spawn(talk(anna, call, frames, clock, offset));
            let other = tokio::spawn(talk(bert, call, frames, clock, offset * 2));
            [one.await.unwrap(), other.await.unwrap()]
        })
    });
    let talks: Vec<_> = talks.collect();
    let (mut delays, mut sockets) = (Vec::new(), Vec::new());
    for talk in talks {
        for (some, socket) in talk.await.unwrap() {
            delays.extend(some);
            sockets.push(socket);
        }
    }
    let spent = server.cpu() - cpu;
    assert_eq!(delays.len() as u64, frames * connections as u64, "nothing lost");
    println!(
        "relay, {connections} connections, {} frames of {FRAME} bytes a second: {}",
        connections as u64 * RATE,
        spread(delays.clone())
    );
    println!("CPU time per 1,000 relayed frames: {:.1} ms", spent * 1e6 / delays.len() as f64);
}

/// Returns the delays, and the connection: closing it with unread data would discard frames that it has sent.
async fn talk(
    client: Client,
    call: u64,
    frames: u64,
    clock: Instant,
    offset: Duration,
) -> (Vec<f64>, Socket) {
    let (mut out, mut input) = client.socket.split();
    let filler: Arc<str> = "x".repeat(FRAME - 90).into();
    let sending = tokio::spawn(async move {
        tokio::time::sleep(offset).await;
        let mut tick = tokio::time::interval(Duration::from_micros(1_000_000 / RATE));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for number in 0..frames {
            tick.tick().await;
            let at = clock.elapsed().as_nanos() as u64;
            // Formatted by hand, so that the client does not dominate the measurement.
            let text = format!(
                r#"{{"type":"call.signal","body":{{"call":{call},"payload":{{"at":{at},"n":{number},"sdp":"{filler}"}}}}}}"#
            );
            out.send(Message::Text(text.into())).await.unwrap();
        }
        out
    });
    let field = |text: &str, name: &str| -> Option<u64> {
        let rest = &text[text.find(name)? + name.len()..];
        rest[..rest.find(|character: char| !character.is_ascii_digit())?].parse().ok()
    };
    let mut delays = Vec::new();
    while (delays.len() as u64) < frames {
        let Message::Text(text) = input.next().await.unwrap().unwrap() else { continue };
        let now = clock.elapsed().as_nanos() as u64;
        assert!(!text.contains(r#""error""#), "refused: {}", text.as_str());
        if let (Some(at), Some(number)) = (field(&text, r#""at":"#), field(&text, r#""n":"#)) {
            assert_eq!(number, delays.len() as u64, "in order");
            delays.push((now - at) as f64 / 1e6);
        }
    }
    (delays, sending.await.unwrap().reunite(input).unwrap())
}

/// Cuts a socket while the other side keeps sending.
async fn recover(server: &Server) {
    let (mut anna, mut bert, call) = call(server, 0..1).await.pop().unwrap();
    let mut times = Vec::new();
    let mut next = 0u64;
    for _ in 0..20 {
        let (session, last) = (bert.session.clone(), bert.last);
        drop(bert);
        let start = Instant::now();
        for number in next..next + 5 {
            anna.send("call.signal", &json!({ "call": call, "payload": number })).await;
        }
        bert = Client::connect(server, 1, "b", Some((&session, last))).await;
        bert.last = last;
        for number in next..next + 5 {
            assert_eq!(bert.event("call.signal").await["payload"], number, "nothing is lost");
        }
        times.push(ms(start));
        next += 5;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    anna.send("call.hangup", &json!({ "call": call })).await;
    bert.event("call.ended").await;
    println!("from a cut socket to a resumed session with all missed frames: {}", spread(times));
}

fn argument(name: &str, default: usize) -> usize {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.nth(1).map_or(default, |value| value.parse().unwrap())
}

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() {
    let (connections, pairs) = (argument("--idle", 10_000), argument("--pairs", 500));
    let seconds = argument("--seconds", 10) as u64;
    let users = connections.div_ceil(DEVICES).max(2 * pairs + 2);
    println!("making {users} accounts…");
    let mut server = Server::start(users).await;
    println!("fresh: {:.0} MB", server.resident());
    recover(&server).await;
    let calls = call(&server, 1..pairs + 1).await;
    relay(&server, calls, seconds).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    // In a fresh process, with the same accounts.
    server.start_again().await;
    idle(&server, connections).await;
}
