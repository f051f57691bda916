//! Cameras that are odd: the simulated camera behind a proxy that changes what it says. One table for all kinds; the
//! parsers have tables of their own in `src/rtsp/`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gatehouse::demo::{DemoOptions, LoginScheme};
use gatehouse::rtsp::message::{Head, head_length};
use gatehouse::streams::status::State;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{camera, camera_toml, server};

/// What the camera sends, changed.
type Change = fn(&mut Seen, Piece<'_>) -> Vec<u8>;

/// A whole message or packet of the camera.
#[derive(Clone, Copy)]
enum Piece<'a> {
    Message { head: &'a str, body: &'a str },
    Packet(&'a [u8]),
}

#[derive(Default)]
struct Seen {
    packets: usize,
    held: Vec<u8>,
}

impl Seen {
    /// Whether something is done to this packet: now and then.
    fn is_due(&mut self) -> bool {
        self.packets += 1;
        self.packets % 40 == 20
    }
}

/// Changes the heads of messages.
fn heads(piece: Piece<'_>, change: impl FnOnce(&str) -> String) -> Vec<u8> {
    match piece {
        Piece::Message { head, body } => [change(head).as_bytes(), body.as_bytes()].concat(),
        Piece::Packet(bytes) => bytes.to_vec(),
    }
}

/// Changes the SDP.
fn sdp(piece: Piece<'_>, change: impl FnOnce(&str) -> String) -> Vec<u8> {
    match piece {
        Piece::Message { head, body } if !body.is_empty() => {
            let body = change(body);
            let lines = head.lines().filter(|line| !line.starts_with("Content-Length") && !line.is_empty());
            let head = lines.collect::<Vec<_>>().join("\r\n");
            format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
        }
        piece => heads(piece, str::to_owned),
    }
}

/// Changes the packets of the picture.
fn packets(piece: Piece<'_>, change: impl FnOnce(&[u8]) -> Vec<u8>) -> Vec<u8> {
    match piece {
        Piece::Packet(bytes) if bytes[1] == 0 => change(bytes),
        piece => heads(piece, str::to_owned),
    }
}

fn without(head: &str, name: &str) -> String {
    let lines = head.split_inclusive("\r\n").filter(|line| !line.to_lowercase().starts_with(name));
    lines.collect()
}

fn replaced(head: &str, name: &str, value: &str) -> String {
    let lines = head.split_inclusive("\r\n").map(|line| match line.to_lowercase().starts_with(name) {
        true => format!("{name} {value}\r\n"),
        false => line.to_owned(),
    });
    lines.collect()
}

const ODDITIES: &[(&str, Change)] = &[
    ("as-it-is", |_, piece| heads(piece, str::to_owned)),
    ("no-cseq", |_, piece| heads(piece, |head| without(head, "cseq"))),
    ("wrong-cseq", |_, piece| heads(piece, |head| replaced(head, "cseq:", "0"))),
    ("lines-end-with-lf", |_, piece| heads(piece, |head| head.replace("\r\n", "\n"))),
    ("other-version", |_, piece| heads(piece, |head| head.replacen("RTSP/1.0 200 OK", "RTSP/1.1 200", 1))),
    ("empty-headers", |_, piece| heads(piece, |head| head.replacen("\r\n", "\r\nServer:\r\njunk\r\n", 1))),
    ("answers-twice", |_, piece| match piece {
        Piece::Message { head, body } => format!("{head}{body}{head}{body}").into_bytes(),
        Piece::Packet(bytes) => bytes.to_vec(),
    }),
    ("no-session", |_, piece| heads(piece, |head| without(head, "session"))),
    ("odd-session", |_, piece| heads(piece, |head| replaced(head, "session:", " 12345678 ; Timeout = 0"))),
    ("no-transport", |_, piece| heads(piece, |head| without(head, "transport"))),
    ("no-length", |_, piece| heads(piece, |head| without(head, "content-length"))),
    ("odd-type", |_, piece| {
        heads(piece, |head| replaced(head, "content-type:", "Application/SDP; charset=utf-8"))
    }),
    ("odd-base", |_, piece| heads(piece, |head| replaced(head, "content-base:", ""))),
    ("sdp-of-tracks-alone", |_, piece| {
        sdp(piece, |text| text[text.find("m=video").unwrap_or(0)..].to_owned())
    }),
    ("sdp-of-junk", |_, piece| {
        sdp(piece, |text| {
            format!(
                "\u{feff}junk\r\no=x\r\nc=IN\r\nm=application\r\n{}\0",
                text.replace("o=", "i=a\r\nb=AS:\r\no=")
            )
        })
    }),
    ("stray-bytes", |seen, piece| {
        packets(piece, |packet| [packet, if seen.is_due() { b"\xde\xad\0\xef$\0" } else { b"" }].concat())
    }),
    ("not-rtp", |seen, piece| {
        packets(piece, |packet| {
            let odd: &[u8] = if seen.is_due() {
                b"$\0\0\0$\0\0\x14\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0$\0\0\x02\x80\x60"
            } else {
                b""
            };
            [packet, odd].concat()
        })
    }),
    ("answers-unasked", |seen, piece| {
        packets(piece, |packet| {
            let odd: &[u8] = if seen.is_due() { b"RTSP/1.0 200 OK\r\nCSeq: 4\r\n\r\n" } else { b"" };
            [odd, packet].concat()
        })
    }),
    ("asks-itself", |seen, piece| {
        packets(piece, |packet| {
            let odd: &[u8] =
                if seen.is_due() { b"GET_PARAMETER rtsp://x/ RTSP/1.0\r\nCSeq: 1\r\n\r\n" } else { b"" };
            [odd, packet].concat()
        })
    }),
    // Its keep-alives are refused for ever: they must not become a flood of requests.
    ("refuses-keep-alives", |_, piece| {
        heads(piece, |head| {
            let is_keep_alive =
                head.contains("Session:") && !head.contains("Transport:") && !head.contains("RTP-Info");
            let challenge = "401 Unauthorized\r\nWWW-Authenticate: Digest realm=\"x\", nonce=\"1\"";
            let head = if is_keep_alive { head.replacen("200 OK", challenge, 1) } else { head.to_owned() };
            head.replacen("timeout=60", "timeout=1", 1)
        })
    }),
    ("repeats-packets", |_, piece| packets(piece, |packet| [packet, packet].concat())),
    ("swaps-packets", |seen, piece| {
        packets(piece, |packet| {
            if seen.is_due() {
                seen.held = packet.to_vec();
                return Vec::new();
            }
            [packet.to_vec(), std::mem::take(&mut seen.held)].concat()
        })
    }),
    ("changes-its-ssrc", |seen, piece| {
        packets(piece, |packet| {
            let mut packet = packet.to_vec();
            seen.packets += 1;
            packet[12] = (seen.packets / 100) as u8;
            packet
        })
    }),
    ("does-not-count", |_, piece| {
        packets(piece, |packet| {
            let mut packet = packet.to_vec();
            packet[6..8].fill(0);
            packet
        })
    }),
];

/// Passes on one connection; what the camera says is changed.
async fn pass_on(
    client: TcpStream,
    camera: String,
    change: Change,
    plays: Arc<AtomicUsize>,
) -> std::io::Result<()> {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_camera, mut to_camera) = TcpStream::connect(camera).await?.into_split();
    let asking = async move {
        let (mut bytes, mut keep_alives) = (vec![0; 4096], 0);
        loop {
            let length = from_client.read(&mut bytes).await?;
            if length == 0 {
                return std::io::Result::Ok(());
            }
            plays.fetch_add(usize::from(bytes.starts_with(b"PLAY ")), Ordering::Relaxed);
            keep_alives += usize::from(bytes.starts_with(b"GET_PARAMETER "));
            // This ends the session, which the test does not expect.
            assert!(keep_alives < 20, "keep-alives are not repeated for ever");
            to_camera.write_all(&bytes[..length]).await?;
        }
    };
    let answering = async move {
        let (mut bytes, mut seen) = (Vec::new(), Seen::default());
        while from_camera.read_buf(&mut bytes).await? > 0 {
            while let Some(length) = piece_length(&bytes) {
                let rest = bytes.split_off(length);
                let changed = match head_length(&bytes).filter(|_| bytes[0] != b'$') {
                    Some(end) => {
                        let text = std::str::from_utf8(&bytes).unwrap();
                        change(&mut seen, Piece::Message { head: &text[..end], body: &text[end..] })
                    }
                    None => change(&mut seen, Piece::Packet(&bytes)),
                };
                to_client.write_all(&changed).await?;
                bytes = rest;
            }
        }
        Ok(())
    };
    tokio::select! {
        result = asking => result,
        result = answering => result,
    }
}

/// The length of the first message or packet, if it is complete.
fn piece_length(bytes: &[u8]) -> Option<usize> {
    let length = if *bytes.first()? == b'$' {
        4 + usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))
    } else {
        let head = head_length(bytes)?;
        head + Head::parse(&bytes[..head]).unwrap().body_length().unwrap_or(0)
    };
    (bytes.len() >= length).then_some(length)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_cameras_play_in_one_session() {
    let camera = camera(DemoOptions::default()).await;
    let address = camera.url().trim_start_matches("rtsp://").split('/').next().unwrap().to_owned();
    let (mut cameras, mut plays) = (String::new(), Vec::new());
    for (name, change) in ODDITIES {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        cameras += &camera_toml(name, &format!("rtsp://{}/demo", listener.local_addr().unwrap()), "");
        let count = Arc::new(AtomicUsize::new(0));
        plays.push((*name, count.clone()));
        let address = address.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass_on(client, address.clone(), *change, count.clone()));
            }
        });
    }
    let server = server(&cameras).await;
    let watching = plays.into_iter().map(async |(name, plays)| {
        let mut viewer = server.watch(name).await;
        let mut last = None;
        for _ in 0..150 {
            let packet = viewer.video().await;
            assert_eq!(packet.lost, 0, "{name}: the numbers have no gap after {last:?}");
            last = Some(packet.timestamp);
        }
        assert_eq!(server.status(name).state, State::Live, "{name}");
        assert_eq!(plays.load(Ordering::Relaxed), 1, "{name}: one session");
    });
    futures::future::join_all(watching).await;
}

/// A camera behind TLS with a certificate that it made itself, as UniFi's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_camera_over_tls_is_pinned_or_refused() {
    let camera = camera(DemoOptions::default()).await;
    let address = camera.url().trim_start_matches("rtsp://").split('/').next().unwrap().to_owned();
    let own = rcgen::generate_simple_self_signed(["camera".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(own.signing_key.serialize_der().into());
    let config = rustls::ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("rtsps://{}/demo", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (acceptor, address) = (acceptor.clone(), address.clone());
            tokio::spawn(async move {
                let mut client = acceptor.accept(client).await?;
                let mut camera = TcpStream::connect(address).await?;
                tokio::io::copy_bidirectional(&mut client, &mut camera).await
            });
        }
    });
    let digest = ring::digest::digest(&ring::digest::SHA256, own.cert.der());
    let fingerprint: Vec<String> = digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    let pin = |text: &str| format!("on_demand = false\ntls_fingerprint = \"{text}\"");
    let toml = [
        camera_toml("unknown", &url, "on_demand = false"),
        camera_toml("pinned", &url, &pin(&fingerprint.join(":"))),
        camera_toml("other", &url, &pin(&"0".repeat(64))),
        camera_toml("anything", &url, "on_demand = false\ntls_verify = false"),
    ];
    let server = server(&toml.concat()).await;
    for name in ["unknown", "other"] {
        let status = server.wait_for(name, "refused", |status| status.state == State::Failed).await;
        let reason = status.reason.clone().unwrap();
        assert_eq!(reason.code, "camera_tls");
        assert!(reason.message.contains(&fingerprint.join(":")), "{}", reason.message);
    }
    for name in ["pinned", "anything"] {
        server.wait_for(name, "live", |status| status.state == State::Live).await;
    }
}

/// A server that answers each DESCRIBE with a redirect; returns its port.
async fn redirects_to(target: String) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let target = target.clone();
            tokio::spawn(async move {
                let mut seen = Vec::new();
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                    seen.extend_from_slice(&buffer[..count]);
                    while let Some(length) = head_length(&seen) {
                        let request = String::from_utf8_lossy(&seen[..length]).into_owned();
                        seen.drain(..length);
                        let number =
                            request.lines().find(|line| line.starts_with("CSeq")).unwrap_or("CSeq: 1");
                        let answer = if request.starts_with("DESCRIBE") {
                            format!("RTSP/1.0 302 Moved\r\n{number}\r\nLocation: {target}\r\n\r\n")
                        } else {
                            format!("RTSP/1.0 200 OK\r\n{number}\r\nPublic: OPTIONS, DESCRIBE\r\n\r\n")
                        };
                        stream.write_all(answer.as_bytes()).await.unwrap();
                    }
                }
            });
        }
    });
    port
}

#[tokio::test]
async fn a_login_is_told_only_to_hosts_that_are_listed() {
    let login = ("u".to_owned(), "p".to_owned(), LoginScheme::Digest);
    let source = camera(DemoOptions { login: Some(login), ..DemoOptions::default() }).await;
    let elsewhere = source.url().replace("127.0.0.1", "localhost");
    let port = redirects_to(elsewhere).await;
    let toml = |id: &str, more: &str| {
        let more = format!("username = \"u\"\npassword = \"p\"\non_demand = false\n{more}");
        camera_toml(id, &format!("rtsp://127.0.0.1:{port}/x"), &more)
    };
    let server = server(&(toml("refused", "") + &toml("listed", "follow = [\"LOCALHOST\"]"))).await;
    server.wait_for("listed", "followed", |status| status.state == State::Live).await;
    let status = server.wait_for("refused", "refused", |status| status.reason.is_some()).await;
    let reason = status.reason.clone().unwrap();
    assert_eq!(reason.code, "camera_refused");
    assert!(reason.message.contains("follow = [\"localhost\"]"), "{}", reason.message);
}
