//! The outermost layer of every request: client address, rate limit, timeout, and the redirect from plain HTTP to
//! HTTPS for other machines. It also adds the security headers to responses. It knows no routes and no logins.
//! Start at [`front`].

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use governor::clock::DefaultClock;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use tracing::error;

use super::error::ApiError;
use super::origin::{authority, host, is_localhost};
use super::proxies::{Mistake, browser_uses_https, is_forwarded, shown};
use super::{App, Client, Connection, base_path, onboarding, problem_page, whip_whep};
use crate::accounts::throttle::network_of;
use crate::compartment;
use crate::config::TlsMode;

/// From a request's head to its response. A viewer may have to wait for a camera to start.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);
/// Longest path and query of a request, in bytes.
const MAX_URI: usize = 2048;
/// The burst size, as a multiple of the requests allowed per second.
const BURST: u32 = 10;
/// How often the limiter drops idle addresses.
const FORGET_INTERVAL: Duration = Duration::from_secs(60);

type Limiter = RateLimiter<IpAddr, DashMapStateStore<IpAddr>, DefaultClock>;

/// What the layer needs. Cheap to clone.
#[derive(Clone)]
pub struct Front {
    app: App,
    limiter: Arc<Limiter>,
}

impl Front {
    /// With the configured limits.
    pub fn new(app: App) -> Self {
        let rate = NonZeroU32::new(app.settings.limits.requests_per_second).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_second(rate)
            .allow_burst(rate.saturating_mul(NonZeroU32::MIN.saturating_add(BURST - 1)));
        let limiter: Arc<Limiter> = Arc::new(RateLimiter::dashmap(quota));
        let weak = Arc::downgrade(&limiter);
        tokio::spawn(async move {
            while let Some(limiter) = weak.upgrade() {
                limiter.retain_recent();
                drop(limiter);
                tokio::time::sleep(FORGET_INTERVAL).await;
            }
        });
        Self { app, limiter }
    }
}

/// The layer.
pub async fn front(State(front): State<Front>, request: Request, next: Next) -> Response {
    let may_be_framed = request.uri().path().starts_with("/embed/");
    let is_for_other_sites = whip_whep::is_for_other_sites(request.uri().path());
    let connection = request.extensions().get::<Connection>().copied();
    let trusted = connection
        .is_some_and(|connection| connection.secure || is_this_machine(connection, request.headers()));
    let wants_page = problem_page::Wanted::by(&request);
    let mut response = match enter(&front, request, next).await {
        Ok(response) => response,
        Err(error) => problem_page::respond(wants_page, error),
    };
    careful(&front.app, may_be_framed, response.headers_mut());
    if is_for_other_sites {
        whip_whep::add_cors(response.headers_mut());
    }
    // Where every device trusts the certificate: with the local authority, HTTP must lead to the page that explains it.
    let public = matches!(front.app.tls.mode(), TlsMode::Acme | TlsMode::Files);
    if public && connection.is_some_and(|connection| connection.secure) {
        let year = HeaderValue::from_static("max-age=31536000");
        response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, year);
    }
    // Browsers grumble about it where nothing can be trusted anyway.
    if trusted {
        let name = HeaderName::from_static("cross-origin-opener-policy");
        response.headers_mut().insert(name, HeaderValue::from_static("same-origin"));
    }
    response
}

/// The layer of a port of older systems. Their pages have inline scripts and load others from elsewhere: no policy of
/// ours applies.
pub async fn site_front(
    State((front, tls)): State<(Front, bool)>,
    mut request: Request,
    next: Next,
) -> Response {
    let app = &front.app;
    let entered = async {
        let (connection, client) = front.count(&mut request)?;
        let host = known_host(request.headers())?;
        if !tls && !is_ours(app, connection, request.headers(), &host) {
            return Err(wrong_host(&host));
        }
        if tls && !client.secure {
            return redirect_to_https(&request);
        }
        request.extensions_mut().insert(client);
        bounded(request, next).await
    };
    let mut response = entered.await.unwrap_or_else(IntoResponse::into_response);
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

impl Front {
    /// Who sends a request, if the limits allow it.
    fn count(&self, request: &mut Request) -> Result<(Connection, Client), ApiError> {
        let unknown = || ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "no connection");
        let connection = *request.extensions().get::<Connection>().ok_or_else(unknown)?;
        self.app.proxies.restore_host(connection, request.headers_mut());
        let client = self.app.proxies.client(connection, request.headers());
        if self.limiter.check_key(&network_of(client.ip)).is_err() {
            let text = "too many requests from this address";
            let error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", text);
            return Err(error.retry_after(1));
        }
        if request.uri().path_and_query().is_some_and(|path| path.as_str().len() > MAX_URI) {
            return Err(ApiError::new(StatusCode::URI_TOO_LONG, "uri_too_long", "the address is too long"));
        }
        Ok((connection, client))
    }
}

fn known_host(headers: &HeaderMap) -> Result<String, ApiError> {
    host(headers).ok_or_else(|| ApiError::new(StatusCode::BAD_REQUEST, "host", "one Host header is needed"))
}

async fn enter(front: &Front, mut request: Request, next: Next) -> Result<Response, ApiError> {
    let app = &front.app;
    let (connection, client) = front.count(&mut request)?;
    // Load balancers check it with HTTP/1.0 and without a name.
    if matches!(request.uri().path(), "/health" | "/ready") && !request.headers().contains_key(header::HOST) {
        request.extensions_mut().insert(client);
        return Ok(next.run(request).await);
    }
    let host = known_host(request.headers())?;
    let untrusted = app.proxies.untrusted_header(connection, request.headers());
    if let Some(name) = untrusted {
        app.proxies.report(Mistake::Untrusted, connection.peer.ip(), &shown(request.headers(), name));
    }
    if app.tls.mode() == TlsMode::Off && !is_ours(app, connection, request.headers(), &host) {
        return Err(untrusted.map_or_else(|| wrong_host(&host), |_| distrusted()));
    }
    if let Some(redirect) = base_path::redirect(&request) {
        return Ok(redirect);
    }
    let needs_tls = !client.secure && app.tls.mode() != TlsMode::Off;
    if needs_tls && !is_this_machine(connection, request.headers()) {
        return plain(app, connection, &request);
    }
    request.extensions_mut().insert(client);
    bounded(request, next).await
}

/// Handles a request within its time; what panics fails alone.
async fn bounded(request: Request, next: Next) -> Result<Response, ApiError> {
    // Not the whole path: a session's name is a secret.
    let path = request.uri().path().split('/').nth(1).unwrap_or_default().to_owned();
    match tokio::time::timeout(REQUEST_LIMIT, compartment::run_async(next.run(request))).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(panicked)) => {
            error!(code = "internal", path, "a request failed: {panicked}");
            let text = "something went wrong; the server's log says what";
            Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", text))
        }
        Err(_) => Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "timeout", "the request took too long")),
    }
}

/// Whether a name means this server. Without TLS nothing else keeps a page of somebody else's, whose name has been
/// turned to our address (DNS rebinding), from talking to us in the name of whoever looks at it. An address cannot be
/// turned, and a trusted proxy has looked at the name.
fn is_ours(app: &App, connection: Connection, headers: &HeaderMap, host: &str) -> bool {
    let is_address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
    is_address
        || is_localhost(host)
        || app.settings.hosts.iter().any(|known| known == host)
        || (is_forwarded(headers) && app.proxies.trusts(connection.peer.ip()))
}

fn wrong_host(host: &str) -> ApiError {
    let text =
        format!("{host} is none of this server's names: add it to [server] hosts, or to those of the proxy");
    ApiError::new(StatusCode::MISDIRECTED_REQUEST, "wrong_host", text)
}

fn distrusted() -> ApiError {
    let text = "a proxy that is not in [server] trusted_proxies forwarded the request; see the server's log";
    ApiError::new(StatusCode::MISDIRECTED_REQUEST, Mistake::Untrusted.code(), text)
}

/// A browser on this machine, and no proxy that brings others.
fn is_this_machine(connection: Connection, headers: &HeaderMap) -> bool {
    let local = connection.peer.ip().to_canonical().is_loopback();
    local && !is_forwarded(headers) && host(headers).is_some_and(|host| is_localhost(&host))
}

/// The response to other machines without TLS.
fn plain(app: &App, connection: Connection, request: &Request) -> Result<Response, ApiError> {
    let headers = request.headers();
    // A redirect to HTTPS would lead to the proxy again, and so on for ever.
    if browser_uses_https(headers) {
        if app.proxies.untrusted_header(connection, headers).is_some() {
            return Err(distrusted());
        }
        app.proxies.report(Mistake::Plain, connection.peer.ip(), &shown(headers, "host"));
        let text = "a proxy uses HTTP to reach this server's HTTPS; see the server's log";
        return Err(ApiError::new(StatusCode::MISDIRECTED_REQUEST, Mistake::Plain.code(), text));
    }
    if app.tls.mode() == TlsMode::LocalCa
        && let Some(response) = onboarding::plain(app, request)
    {
        return Ok(response);
    }
    redirect_to_https(request)
}

fn redirect_to_https(request: &Request) -> Result<Response, ApiError> {
    let headers = request.headers();
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let path = base_path::of(request).join(path);
    let target = authority(headers).map(|authority| format!("https://{authority}{path}"));
    match target.and_then(|target| HeaderValue::from_str(&target).ok()) {
        Some(target) => Ok((StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, target)]).into_response()),
        None => Err(ApiError::new(StatusCode::BAD_REQUEST, "https_only", "use https")),
    }
}

fn careful(app: &App, may_be_framed: bool, headers: &mut HeaderMap) {
    const HEADERS: [(HeaderName, &str); 3] = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("permissions-policy"),
            "camera=(self), microphone=(self), display-capture=(self), geolocation=(), usb=(), payment=()",
        ),
    ];
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let ancestors = match (may_be_framed, app.settings.embed_from.as_slice()) {
        (false, _) => "'none'".to_owned(),
        (true, origins) => format!("'self' {}", origins.join(" ")).trim_end().to_owned(),
    };
    let policy = format!(
        "default-src 'self'; base-uri 'none'; form-action 'self'; object-src 'none'; frame-ancestors {ancestors}"
    );
    // The page of a problem sets its own.
    if let Some(policy) =
        HeaderValue::from_str(&policy).ok().filter(|_| !headers.contains_key(header::CONTENT_SECURITY_POLICY))
    {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    // Responses may be private to the caller: only the pages' files set another policy.
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}
