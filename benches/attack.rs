//! Attacks a running server for some seconds and says how it fares: how long a stranger from another address needs to log
//! in, and the server's memory before, at its height and 20 s later. Another program, such as gwbench, watches a camera
//! meanwhile. A benchmark, not a test (`tests/it/attacks.rs` has those).
//!
//!     cargo bench --bench attack -- --url http://127.0.0.1:8443 --pid PID \
//!         --stream camera/cam0 --attack dtls [--seconds 10]
//!
//! The server needs `[tls] mode = "off"` and a public camera. Attacks: none, dtls, epoch, checks, flood,
//! tcp, patches, logins.

// A failed `unwrap` is a failed benchmark; the figures go to standard output.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, dead_code)]

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use attacker::{Session, fragment, offer};

#[path = "../tests/it/attacker.rs"]
mod attacker;
#[path = "../tests/it/sdp.rs"]
mod sdp;

/// The addresses of those who log in and of the attacker; whoever watches meanwhile has 127.0.0.1.
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

fn argument(name: &str) -> Option<String> {
    std::env::args().skip_while(|argument| argument != name).nth(1)
}

/// Resident memory in MB.
fn resident(pid: &str) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0 / 1e6
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let url = argument("--url").unwrap();
    let pid = argument("--pid").unwrap();
    let attack = argument("--attack").unwrap();
    let seconds: u64 = argument("--seconds").map_or(10, |value| value.parse().unwrap());
    // The memory of hashing passwords stays with its threads.
    for _ in 0..4 {
        log_in(&url).await;
    }
    let before = resident(&pid);
    let stop = Arc::new(AtomicBool::new(false));
    let attacking = {
        let (url, attack, stop) = (url.clone(), attack.clone(), stop.clone());
        std::thread::spawn(move || run(&url, &attack, &stop))
    };
    let (mut worst, mut logins, mut height) = (Duration::ZERO, 0, before);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(seconds) {
        worst = worst.max(log_in(&url).await);
        logins += 1;
        height = height.max(resident(&pid));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let count = attacking.join().unwrap();
    tokio::time::sleep(Duration::from_secs(20)).await;
    println!(
        "{attack}: {count} attempts in {seconds} s; a stranger's {logins} logins, worst {:.0} ms; memory {before:.1} MB, at \
         most {height:.1}, 20 s later {:.1}",
        worst.as_secs_f64() * 1e3,
        resident(&pid)
    );
}

fn client(address: Ipv4Addr) -> reqwest::Client {
    reqwest::Client::builder().local_address(IpAddr::V4(address)).build().unwrap()
}

/// Somebody else's login, from another address, over a new connection.
async fn log_in(url: &str) -> Duration {
    let client = client(STRANGER);
    let start = Instant::now();
    let request = client
        .post(format!("{url}/api/login"))
        .header("origin", url)
        .header("content-type", "application/json");
    let body = r#"{"name":"admin","password":"violet-41-kettle"}"#;
    let response = request.body(body).send().await.unwrap();
    assert_eq!(response.status(), 200);
    start.elapsed()
}

/// Attacks until told to stop; how many attempts were made.
fn run(url: &str, attack: &str, stop: &AtomicBool) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = client(ATTACKER);
    let stream = argument("--stream").unwrap();
    let session = || {
        let offer = offer("active", &["AB"; 32].join(":"), "");
        runtime.block_on(attacker::post(url, &client, &stream, offer)).ok()
    };
    let mut count = 0;
    let mut connections = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        count += match attack {
            "none" => pause(100),
            "dtls" | "epoch" => session().map_or_else(|| pause(100), |session| handshake(&session, attack)),
            "checks" => session().map_or_else(|| pause(100), |session| checks(&session, stop)),
            "flood" => flood(url, stop),
            "tcp" => tcp(url, &mut connections),
            "patches" => session().map_or_else(|| pause(100), |session| patches(&runtime, &client, session)),
            "logins" => wrong_login(&runtime, &client, url),
            other => panic!("unknown attack {other}"),
        };
    }
    count
}

fn pause(milliseconds: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(milliseconds));
    0
}

/// A handshake message in fragments of one byte, the first one last, or records of the next epoch.
fn handshake(session: &Session, attack: &str) -> u64 {
    let socket = attacker::socket_on(ATTACKER);
    if !session.prove(&socket) {
        return 0;
    }
    for sequence in 0..1000u64 {
        let mut record = if attack == "dtls" {
            fragment(sequence, 1000, (sequence as u32 + 1) % 1000, &[0])
        } else {
            fragment(sequence, 30, 0, &[7; 30])
        };
        record[4] = u8::from(attack == "epoch");
        socket.send_to(&record, session.server).unwrap();
    }
    1000
}

/// Checks with the right password from ever new ports.
fn checks(session: &Session, stop: &AtomicBool) -> u64 {
    let check = session.check(true);
    let mut count = 0;
    while count < 20_000 && !stop.load(Ordering::Relaxed) {
        attacker::socket_on(ATTACKER).send_to(&check, session.server).unwrap();
        count += 1;
    }
    count
}

/// Rubbish and checks with wrong passwords, as fast as they go.
fn flood(url: &str, stop: &AtomicBool) -> u64 {
    let server: SocketAddr = url.trim_start_matches("http://").parse().unwrap();
    let socket = attacker::socket_on(ATTACKER);
    let name = [&[0, 6, 0, 8][..], b"Abcd:efg"].concat();
    let check = attacker::stun(1, &[7; 12], &[name], "no-password");
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        for datagram in [&check[..], &[22, 0xfe, 0xfd], &[0x80; 900], &[0xff; 40]] {
            let _ = socket.send_to(datagram, server);
            count += 1;
        }
    }
    count
}

/// A silent ICE-TCP connection more; all stay open.
fn tcp(url: &str, connections: &mut Vec<TcpStream>) -> u64 {
    let name = [&[0, 6, 0, 8][..], b"Abcd:efg"].concat();
    let check = attacker::stun(1, &[7; 12], &[name], "no-password");
    let server: SocketAddr = url.trim_start_matches("http://").parse().unwrap();
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((ATTACKER, 0)).into()).unwrap();
    if socket.connect(&server.into()).is_ok() {
        let mut connection = TcpStream::from(socket);
        let _ = connection.write_all(&[&(check.len() as u16).to_be_bytes()[..], &check].concat());
        connections.push(connection);
        if connections.len() > 900 {
            connections.remove(0);
        }
    }
    pause(1) + 1
}

/// ICE restarts, each with other credentials and candidates of somebody else.
fn patches(runtime: &tokio::runtime::Runtime, client: &reqwest::Client, mut session: Session) -> u64 {
    let mut count = 0;
    loop {
        let lines: String =
            (0..8).map(|n| format!("a=candidate:1 1 udp 1 127.0.0.1 {} typ host\r\n", 40_000 + n)).collect();
        let body = format!("a=ice-ufrag:evil{count}\r\na=ice-pwd:{}\r\n{lines}", attacker::PWD);
        let request = client.patch(&session.location).header("if-match", session.etag.as_str());
        let request = request.header("content-type", "application/trickle-ice-sdpfrag").body(body);
        let Ok(response) = runtime.block_on(request.send()) else { return count };
        count += 1;
        let Some(etag) = response.headers().get("etag") else { return count };
        session.etag = etag.to_str().unwrap().to_owned();
        if count >= 50 {
            return count;
        }
    }
}

fn wrong_login(runtime: &tokio::runtime::Runtime, client: &reqwest::Client, url: &str) -> u64 {
    let request = client
        .post(format!("{url}/api/login"))
        .header("origin", url)
        .header("content-type", "application/json");
    let _ = runtime.block_on(request.body(r#"{"name":"admin","password":"wrong"}"#).send());
    1
}
