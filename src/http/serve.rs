//! The one TCP port: looks at a connection's first bytes and hands it to HTTP or to the media engine. Slow and
//! silent connections are cut off; their number is bounded. It knows no routes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::Client;
use crate::media::Engine;

/// TCP connections at once.
const MAX_CONNECTIONS: usize = 4096;
/// From the connection to its first bytes.
const FIRST_BYTES: Duration = Duration::from_secs(10);
/// For a request's headers.
const HEADERS: Duration = Duration::from_secs(10);
/// A request's line and headers.
const MAX_HEAD: usize = 32 * 1024;
const MAX_HEADERS: usize = 64;

/// What a connection speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Protocol {
    Http,
    Tls,
    IceTcp,
    Unknown,
}

/// Tells by the first bytes; nothing while there are too few of them.
fn recognise(first: &[u8]) -> Option<Protocol> {
    match first {
        [0x16, 0x03, ..] => Some(Protocol::Tls),
        [letter, ..] if letter.is_ascii_uppercase() => Some(Protocol::Http),
        // RFC 4571: a length of at least STUN's header, then a binding request.
        [high, low, 0, 1, ..] if u16::from_be_bytes([*high, *low]) >= 20 => Some(Protocol::IceTcp),
        [_, _, _, _, ..] => Some(Protocol::Unknown),
        [0x16] | [0..=0x0f, ..] | [] => None,
        _ => Some(Protocol::Unknown),
    }
}

/// Serves until `stop`.
pub async fn serve(listener: TcpListener, router: Router, engine: Engine, stop: CancellationToken) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!("accepting a connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(permit) = room.clone().try_acquire_owned() else {
            debug!(%remote, "too many connections");
            continue;
        };
        let (router, engine, stop) = (router.clone(), engine.clone(), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = connection(stream, remote, router, engine) => {}
            }
            drop(permit);
        });
    }
}

async fn connection(stream: TcpStream, remote: SocketAddr, router: Router, engine: Engine) {
    let protocol = tokio::time::timeout(FIRST_BYTES, first_bytes(&stream)).await;
    match protocol {
        Ok(Some(Protocol::Http)) => http(stream, remote, router).await,
        Ok(Some(Protocol::IceTcp)) => engine.serve_tcp(stream).await,
        Ok(Some(protocol)) => debug!(%remote, ?protocol, "connection refused"),
        Ok(None) | Err(_) => {}
    }
}

async fn first_bytes(stream: &TcpStream) -> Option<Protocol> {
    let mut first = [0; 4];
    let mut seen = 0;
    loop {
        let count = stream.peek(&mut first).await.ok()?;
        if let Some(protocol) = recognise(&first[..count]) {
            return Some(protocol);
        }
        if count == 0 {
            return None;
        }
        // `peek` returns at once as long as there is a byte: wait for more without spinning.
        if count == seen {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        seen = count;
    }
}

async fn http(stream: TcpStream, remote: SocketAddr, router: Router) {
    let _ = stream.set_nodelay(true);
    let service = TowerToHyperService::new(router.layer(Extension(Client(remote))));
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        debug!(%remote, "connection ended: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_recognised_by_their_first_bytes() {
        let table: &[(&[u8], Option<Protocol>)] = &[
            (b"", None),
            (b"G", Some(Protocol::Http)),
            (b"OPTI", Some(Protocol::Http)),
            (&[0x16], None),
            (&[0x16, 3, 1, 2], Some(Protocol::Tls)),
            (&[0, 100], None),
            (&[0, 100, 0], None),
            (&[0, 100, 0, 1], Some(Protocol::IceTcp)),
            (&[0, 19, 0, 1], Some(Protocol::Unknown)),
            (&[0, 100, 1, 1], Some(Protocol::Unknown)),
            (b"get ", Some(Protocol::Unknown)),
            (&[0xff], Some(Protocol::Unknown)),
        ];
        for (first, expected) in table {
            assert_eq!(recognise(first), *expected, "{first:02x?}");
        }
    }
}
