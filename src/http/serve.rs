//! The one TCP port: detects a connection's protocol by its first bytes and hands it to HTTP or to the media engine.
//! Slow and silent connections time out; the number of connections is bounded. It knows no routes. Start at
//! [`serve`].

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::{HeaderValue, Version, header};
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::proxies::Mistake;
use super::{App, Connection, proxy_protocol};
use crate::accounts::throttle::network_of;

/// From the connection to its first bytes.
const FIRST_BYTES: Duration = Duration::from_secs(5);
/// For a request's headers.
const HEADERS: Duration = Duration::from_secs(10);
/// Timeout for a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Largest request line with headers, in bytes.
const MAX_HEAD: usize = 32 * 1024;
const MAX_HEADERS: usize = 64;
/// Concurrent requests of an HTTP/2 connection.
const MAX_STREAMS: u32 = 64;
/// Interval of HTTP/2 pings, and how long a response may take.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// An HTTP/2 connection without a request for this long is closed: clients open a new one.
const IDLE: Duration = Duration::from_secs(60);
/// Connections of one address that have not sent a request yet.
const UNPROVEN_PER_ADDRESS: usize = 256;
/// …and those that claim to be ICE, and have not proven to belong to one of our sessions.
const UNPROVEN_ICE_PER_ADDRESS: usize = 64;
/// Between two words about connections that are refused.
const REFUSAL_WARNING: Duration = Duration::from_secs(60);

/// The protocol of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Protocol {
    Http,
    Tls,
    IceTcp,
    /// The PROXY protocol, then one of the others.
    Proxy,
    Unknown,
}

/// Detects the protocol by the first bytes; `None` while there are too few of them.
fn recognise(first: &[u8]) -> Option<Protocol> {
    match first {
        [0x16, 0x03, ..] => Some(Protocol::Tls),
        b"PROX" | b"\r\n\r\n" => Some(Protocol::Proxy),
        b"P" | b"PR" | b"PRO" | b"\r" | b"\r\n" | b"\r\n\r" => None,
        [letter, ..] if letter.is_ascii_uppercase() => Some(Protocol::Http),
        // RFC 4571: a length of at least STUN's header, then a binding request.
        [high, low, 0, 1, ..] if u16::from_be_bytes([*high, *low]) >= 20 => Some(Protocol::IceTcp),
        [_, _, _, _, ..] => Some(Protocol::Unknown),
        [0x16] | [0..=0x0f, ..] | [] => None,
        _ => Some(Protocol::Unknown),
    }
}

/// How many connections of a kind each address has, and how many there are in all.
#[derive(Clone)]
struct Kind {
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
    room: Arc<Semaphore>,
    per_address: usize,
}

/// A connection's place among all of a kind. What takes the connection over keeps it, as a WebSocket does.
pub struct Place {
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
    address: IpAddr,
    _permit: OwnedSemaphorePermit,
}

impl Kind {
    fn new(total: usize, per_address: usize) -> Self {
        Self { counts: Arc::default(), room: Arc::new(Semaphore::new(total)), per_address }
    }

    /// A place for a connection; proxies are not bound by the limit of one address.
    fn enter(&self, address: IpAddr, is_proxy: bool) -> Option<Place> {
        let permit = self.room.clone().try_acquire_owned().ok()?;
        let address = network_of(address);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if *count >= self.per_address && !is_proxy {
            return None;
        }
        *count += 1;
        Some(Place { counts: self.counts.clone(), address, _permit: permit })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

/// What serving a connection requires.
#[derive(Clone)]
struct Service {
    app: App,
    router: Router,
    all: Kind,
    /// Connections that have not sent a request yet.
    unproven: Kind,
    /// ICE over TCP: never all connections, so that there is a place for HTTPS.
    ice: Kind,
    /// ICE over TCP without a proof.
    unproven_ice: Kind,
}

/// A connection that has just been accepted.
struct Accepted {
    remote: SocketAddr,
    is_proxy: bool,
    place: Arc<Place>,
    /// Given back with the first request.
    unproven: Place,
}

/// Serves `router` until `stop`. The limit per address does not apply to trusted proxies.
pub async fn serve(listener: TcpListener, app: App, router: Router, stop: CancellationToken) {
    let limits = &app.settings.limits;
    let all = Kind::new(limits.connections, limits.connections_per_address);
    let unproven = Kind::new(limits.connections / 2, UNPROVEN_PER_ADDRESS);
    let ice = Kind::new(limits.connections * 3 / 4, usize::MAX);
    let unproven_ice = Kind::new(limits.connections / 4, UNPROVEN_ICE_PER_ADDRESS);
    let service = Service { app, router, all, unproven, ice, unproven_ice };
    let (mut warned, mut refused) = (None::<Instant>, 0u64);
    let mut accept_warned = None::<Instant>;
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, mostly: it lasts, and is tried ten times a second.
                if accept_warned.is_none_or(|at| at.elapsed() > REFUSAL_WARNING) {
                    warn!("cannot accept a connection: {error}");
                    accept_warned = Some(Instant::now());
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let ip = remote.ip();
        let is_proxy = service.app.proxies.trusts(ip);
        let places = service.all.enter(ip, is_proxy);
        let places = places.and_then(|place| Some((place, service.unproven.enter(ip, is_proxy)?)));
        let Some((place, unproven)) = places else {
            refused += 1;
            if warned.is_none_or(|at| at.elapsed() > REFUSAL_WARNING) {
                warn!(%remote, refused, "connection refused: too many connections, see [limits]");
                (warned, refused) = (Some(Instant::now()), 0);
            }
            continue;
        };
        let accepted = Accepted { remote, is_proxy, place: Arc::new(place), unproven };
        let (service, stop) = (service.clone(), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = connection(stream, service, accepted) => {}
            }
        });
    }
}

async fn connection(mut stream: TcpStream, service: Service, mut accepted: Accepted) {
    let _ = stream.set_nodelay(true);
    let mut protocol = tokio::time::timeout(FIRST_BYTES, first_bytes(&stream)).await.unwrap_or_default();
    if protocol == Some(Protocol::Proxy) {
        match tokio::time::timeout(FIRST_BYTES, behind_proxy(&mut stream, &service, accepted)).await {
            Ok(Some(behind)) => accepted = behind,
            Ok(None) | Err(_) => return,
        }
        protocol = tokio::time::timeout(FIRST_BYTES, first_bytes(&stream)).await.unwrap_or_default();
    }
    let remote = accepted.remote;
    match protocol {
        Some(Protocol::Http) => http(stream, false, Version::HTTP_11, service, accepted).await,
        Some(Protocol::Tls) => match tokio::time::timeout(HANDSHAKE, service.app.tls.accept(stream)).await {
            Ok(Ok(Some(stream))) => {
                let version = match stream.get_ref().1.alpn_protocol() {
                    Some(b"h2") => Version::HTTP_2,
                    _ => Version::HTTP_11,
                };
                http(stream, true, version, service, accepted).await;
            }
            Ok(Ok(None)) | Err(_) => {}
            Ok(Err(error)) => debug!(%remote, "TLS: {error}"),
        },
        Some(Protocol::IceTcp) => ice_tcp(stream, &service, accepted).await,
        Some(protocol) => debug!(%remote, ?protocol, "connection refused"),
        None => {}
    }
}

async fn ice_tcp(stream: TcpStream, service: &Service, accepted: Accepted) {
    let Accepted { remote, is_proxy, place: _place, unproven } = accepted;
    let places =
        (service.ice.enter(remote.ip(), is_proxy), service.unproven_ice.enter(remote.ip(), is_proxy));
    let (Some(_ice), Some(unproven_ice)) = places else {
        return debug!(%remote, "too many ICE connections without a proof: refused");
    };
    service.app.engine.serve_tcp(stream, move || drop((unproven, unproven_ice))).await;
}

/// The connection of the client that a trusted proxy names. From then on the client's limits apply.
async fn behind_proxy(stream: &mut TcpStream, service: &Service, accepted: Accepted) -> Option<Accepted> {
    let remote = accepted.remote;
    if !accepted.is_proxy {
        service.app.proxies.report(Mistake::ProxyProtocol, remote.ip(), "a PROXY protocol header");
        return None;
    }
    let client = match proxy_protocol::read(stream).await {
        Ok(Some(client)) => client,
        Ok(None) => return Some(accepted),
        Err(error) => {
            warn!(proxy = %remote, "invalid PROXY protocol header: {error}");
            return None;
        }
    };
    let is_proxy = service.app.proxies.trusts(client.ip());
    let places = (service.all.enter(client.ip(), is_proxy), service.unproven.enter(client.ip(), is_proxy));
    let (Some(place), Some(unproven)) = places else {
        debug!(%client, "connection refused: too many connections, see [limits]");
        return None;
    };
    Some(Accepted { remote: client, is_proxy, place: Arc::new(place), unproven })
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
        // `peek` returns immediately while any byte is buffered: sleep instead of spinning.
        if count == seen {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        seen = count;
    }
}

/// Serves the requests of a connection, with HTTP/2 if TLS agreed on it.
async fn http(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    secure: bool,
    version: Version,
    service: Service,
    accepted: Accepted,
) {
    let Accepted { remote: peer, place, unproven, .. } = accepted;
    let connection = Connection { peer, secure };
    let Service { app, router, .. } = service;
    let router = TowerToHyperService::new(router);
    let unproven = Mutex::new(Some(unproven));
    let activity = Arc::new(Activity::new());
    let counted = activity.clone();
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        drop(unproven.lock().unwrap_or_else(PoisonError::into_inner).take());
        add_host(&mut request);
        app.settings.sub_paths.enter(&mut request, app.proxies.trusts(peer.ip()));
        request.extensions_mut().insert(connection);
        request.extensions_mut().insert(place.clone());
        let running = Activity::begin(&counted);
        let response = router.call(request);
        async move {
            let _running = running;
            response.await
        }
    });
    let served = if version == Version::HTTP_2 {
        let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEAD as u32)
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE);
        let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            served = &mut serving => served,
            () = activity.idle() => {
                serving.as_mut().graceful_shutdown();
                tokio::time::timeout(HEADERS, serving).await.unwrap_or(Ok(()))
            }
        }
    } else {
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADERS)
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_HEADERS)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
            .await
    };
    if let Err(error) = served {
        debug!(peer = %connection.peer, "connection ended: {error}");
    }
}

/// HTTP/2 names the host in a pseudo-header (RFC 9113 §8.3.1), which takes precedence.
fn add_host<B>(request: &mut hyper::Request<B>) {
    if request.version() != Version::HTTP_2 {
        return;
    }
    let authority = request.uri().authority().map(|authority| authority.as_str());
    if let Some(host) = authority.and_then(|authority| HeaderValue::from_str(authority).ok()) {
        request.headers_mut().insert(header::HOST, host);
    }
}

/// The requests of an HTTP/2 connection: one without any is closed after a while.
struct Activity {
    running: watch::Sender<usize>,
}

impl Activity {
    fn new() -> Self {
        Self { running: watch::Sender::new(0) }
    }

    /// Counts a request until the returned value is dropped.
    fn begin(this: &Arc<Self>) -> impl Drop + Send + 'static + use<> {
        struct Running(Arc<Activity>);
        impl Drop for Running {
            fn drop(&mut self) {
                self.0.running.send_modify(|count| *count -= 1);
            }
        }
        this.running.send_modify(|count| *count += 1);
        Running(this.clone())
    }

    /// Returns when there has been no request for [`IDLE`].
    async fn idle(&self) {
        let mut changes = self.running.subscribe();
        loop {
            let is_idle = *changes.borrow_and_update() == 0;
            let limit = if is_idle { IDLE } else { Duration::MAX };
            if tokio::time::timeout(limit, changes.changed()).await.is_err() {
                return;
            }
        }
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
            (b"PO", Some(Protocol::Http)),
            (b"PRO", None),
            (b"PROP", Some(Protocol::Http)),
            (b"PROX", Some(Protocol::Proxy)),
            (b"\r\n", None),
            (b"\r\n\r\n", Some(Protocol::Proxy)),
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
