//! Somebody who speaks HTTP, STUN and DTLS by hand, and means no good: sessions with chosen credentials, checks from any
//! socket, answers only when asked for.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use gatehouse::media::session::negotiate::DtlsRole;
use gatehouse::media::transport::dtls::{DtlsTransport, Identity};
use hmac::{Hmac, Mac};
use serde_json::Value;
use sha1::Sha1;

use crate::sdp::H264;

pub const UFRAG: &str = "evil";
pub const PWD: &str = "0123456789012345678901";

/// A session that was begun with an offer of the attacker's.
pub struct Session {
    /// The address of the server's media port.
    pub server: SocketAddr,
    /// Of the server.
    pub ufrag: String,
    pub pwd: String,
    pub fingerprint: String,
    pub location: String,
    pub etag: String,
}

/// An offer like Chromium's with these lines in its section.
pub fn offer(setup: &str, fingerprint: &str, more: &str) -> String {
    crate::sdp::offer(H264)
        .replace("abcd", UFRAG)
        .replace("actpass", setup)
        .replace(&["AB"; 32].join(":"), fingerprint)
        + more
}

/// Posts an offer to a server at `base`, such as `http://127.0.0.1:8443`; the session, or status and code.
pub async fn post(
    base: &str,
    client: &reqwest::Client,
    stream: &str,
    offer: String,
) -> Result<Session, (u16, Value)> {
    let request = client.post(format!("{base}/whep/{stream}"));
    let response = request.header("content-type", "application/sdp").body(offer).send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await.unwrap();
    if status != 201 {
        let body: Value = serde_json::from_str(&text).unwrap_or_default();
        return Err((status, body["error"]["code"].clone()));
    }
    let line = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    Ok(Session {
        server: base.trim_start_matches("http://").parse().unwrap(),
        ufrag: line("a=ice-ufrag:"),
        pwd: line("a=ice-pwd:"),
        fingerprint: line("a=fingerprint:"),
        location: format!("{base}{}", header("location")),
        etag: header("etag"),
    })
}

pub fn socket() -> UdpSocket {
    socket_on(Ipv4Addr::LOCALHOST)
}

pub fn socket_on(address: Ipv4Addr) -> UdpSocket {
    let socket = UdpSocket::bind((address, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut out = [kind.to_be_bytes(), (value.len() as u16).to_be_bytes()].concat();
    out.extend_from_slice(value);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

/// A STUN message with MESSAGE-INTEGRITY (RFC 8489 §14.5).
pub fn stun(kind: u16, transaction: &[u8; 12], attributes: &[Vec<u8>], password: &str) -> Vec<u8> {
    let body = attributes.concat();
    let mut message = kind.to_be_bytes().to_vec();
    message.extend_from_slice(&(body.len() as u16 + 24).to_be_bytes());
    message.extend_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
    message.extend_from_slice(transaction);
    message.extend_from_slice(&body);
    let mut mac = <Hmac<Sha1> as Mac>::new_from_slice(password.as_bytes()).unwrap();
    mac.update(&message);
    message.extend(attribute(8, &mac.finalize().into_bytes()));
    message
}

impl Session {
    /// A check with the right password.
    pub fn check(&self, nominate: bool) -> Vec<u8> {
        let mut attributes = vec![
            attribute(6, format!("{}:{UFRAG}", self.ufrag).as_bytes()),
            attribute(0x24, &[0x6e, 0, 0, 0xff]),
            attribute(0x802a, &[1; 8]),
        ];
        if nominate {
            attributes.push(attribute(0x25, &[]));
        }
        stun(1, &rand::random(), &attributes, &self.pwd)
    }

    /// The answer to a check of the server's.
    pub fn answer(check: &[u8]) -> Vec<u8> {
        let transaction = check[8..20].try_into().unwrap();
        stun(0x101, transaction, &[attribute(0x20, &[0, 1, 0, 0, 0, 0, 0, 0])], PWD)
    }

    /// Sends a nominating check and answers the server's: the socket's address is proven afterwards. `false` if the
    /// server sends none, because the session has had too many.
    pub fn prove(&self, socket: &UdpSocket) -> bool {
        socket.send_to(&self.check(true), self.server).unwrap();
        let mut buffer = [0; 2000];
        while let Ok(length) = socket.recv(&mut buffer) {
            if buffer[..2] == [0, 1] {
                socket.send_to(&Self::answer(&buffer[..length]), self.server).unwrap();
                return true;
            }
        }
        false
    }
}

/// A DTLS client with a certificate of its own.
pub struct Dtls {
    identity: Identity,
}

impl Dtls {
    pub fn new() -> Self {
        let provider = rtc::crypto::default_provider().unwrap();
        Self { identity: Identity::generate(&*provider).unwrap() }
    }

    /// For the offer.
    pub fn fingerprint(&self) -> &str {
        self.identity.fingerprint()
    }

    /// Shakes hands over a socket whose address is proven; `true` if it comes to an end.
    pub fn handshake(&self, session: &Session, socket: &UdpSocket) -> bool {
        let provider = rtc::crypto::default_provider().unwrap();
        let (hash, digits) = session.fingerprint.split_once(' ').unwrap();
        let digits = digits.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
        let expected = vec![(hash.to_owned(), digits)];
        let mut dtls = DtlsTransport::new(&self.identity, expected, DtlsRole::Client, provider).unwrap();
        let now = std::time::Instant::now();
        dtls.start(now).unwrap();
        let mut buffer = [0; 3000];
        while now.elapsed() < Duration::from_secs(5) {
            while let Some(datagram) = dtls.outgoing() {
                socket.send_to(&datagram, session.server).unwrap();
            }
            let Ok(length) = socket.recv(&mut buffer) else { return false };
            if matches!(buffer[0], 20..=63)
                && let Ok(Some(_)) = dtls.handle(std::time::Instant::now(), &buffer[..length])
            {
                return true;
            }
        }
        false
    }
}

/// A DTLS record with one handshake fragment.
pub fn fragment(sequence: u64, length: u32, offset: u32, body: &[u8]) -> Vec<u8> {
    let mut out = vec![22, 0xfe, 0xfd, 0, 0];
    out.extend_from_slice(&sequence.to_be_bytes()[2..]);
    out.extend_from_slice(&(12 + body.len() as u16).to_be_bytes());
    out.push(1);
    out.extend_from_slice(&length.to_be_bytes()[1..]);
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&offset.to_be_bytes()[1..]);
    out.extend_from_slice(&(body.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(body);
    out
}
