//! HTTP: what its handlers share, and the layers around them. `routes` is the table of all routes and who may use
//! them, `guard` enforces that, `front` is the outermost layer of every request, `serve` accepts connections.
//! `whip_whep` is the media signaling; `login`, `account`, `users`, `admin_cameras`, `permissions`, `log` and
//! `tickets` are the API; `assets`, `onboarding` and `embed` the pages. No media passes through here.

pub mod access;
mod account;
mod admin_cameras;
mod assets;
mod base_path;
mod calls;
mod cameras;
mod compat;
mod embed;
mod error;
mod front;
mod guard;
mod health;
pub mod layers;
mod log;
mod login;
mod onboarding;
pub mod origin;
mod permissions;
mod problem_page;
pub mod proxies;
mod proxy_protocol;
pub mod routes;
pub mod serve;
mod socket;
mod tickets;
mod users;
mod whip_whep;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{Extensions, HeaderMap, StatusCode, Version, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{Predicate as _, SizeAbove};

use crate::accounts::Accounts;
use crate::accounts::audit::Event;
use crate::accounts::credentials::{Caller, address_text};
use crate::cameras::Cameras;
use crate::compat::Compat;
use crate::compat::site::{Around, MAX_BODY as MAX_SITE_BODY, Site};
use crate::config::{Config, IceServer, Limits};
use crate::gate::Gate;
use crate::health::Health;
use crate::media::Engine;
use crate::sessions::revocation::Revocation;
use crate::signaling::driver::Switchboard;
use crate::tls::Tls;
use proxies::Proxies;

/// Largest accepted body: SDP offers are the largest ones.
const MAX_BODY: usize = 64 * 1024;
/// Concurrent camera tests.
const PROBES: usize = 2;

/// The state shared by all handlers. Cheap to clone.
#[derive(Clone)]
pub struct App {
    /// The accounts.
    pub accounts: Accounts,
    /// The cameras.
    pub cameras: Cameras,
    /// Who may watch and publish what.
    pub gate: Gate,
    /// The media engine.
    pub engine: Engine,
    /// Running sessions.
    pub sessions: Revocation,
    /// The certificates.
    pub tls: Arc<Tls>,
    /// The signaling connections.
    pub switchboard: Switchboard,
    /// Limits concurrent camera tests.
    probes: Arc<Semaphore>,
    /// The trusted proxies.
    pub proxies: Arc<Proxies>,
    /// What is wrong with the server as a whole.
    pub health: Health,
    /// The older systems.
    pub compat: Compat,
    settings: Arc<Settings>,
    assets: assets::Assets,
}

/// The components that an [`App`] is built from.
pub struct Parts {
    /// The accounts.
    pub accounts: Accounts,
    /// The cameras.
    pub cameras: Cameras,
    /// Who may watch and publish what.
    pub gate: Gate,
    /// The media engine.
    pub engine: Engine,
    /// Running sessions.
    pub sessions: Revocation,
    /// The certificates.
    pub tls: Arc<Tls>,
    /// The signaling connections.
    pub switchboard: Switchboard,
    /// What is wrong with the server as a whole.
    pub health: Health,
    /// The older systems.
    pub compat: Compat,
}

/// Settings that do not change while the server runs.
struct Settings {
    port: u16,
    ice_servers: Vec<IceServer>,
    embed_from: Vec<String>,
    sub_paths: base_path::SubPaths,
    /// Names by which browsers reach this server, in lower case.
    hosts: Vec<String>,
    limits: Limits,
}

impl App {
    /// For a server that listens on `address`.
    pub fn new(config: &Config, address: SocketAddr, parts: Parts) -> Self {
        let settings = Settings {
            port: address.port(),
            ice_servers: config.media.ice_servers.clone(),
            embed_from: config.embed_from.clone(),
            sub_paths: base_path::SubPaths::new(config.base_path.clone()),
            hosts: known_hosts(config),
            limits: config.limits.clone(),
        };
        let Parts { accounts, cameras, gate, engine, sessions, tls, switchboard, health, compat } = parts;
        let (probes, settings) = (Arc::new(Semaphore::new(PROBES)), Arc::new(settings));
        let assets = assets::Assets::new();
        let proxies = Arc::new(Proxies::new(config.trusted_proxies.clone(), health.clone()));
        Self {
            accounts,
            cameras,
            gate,
            engine,
            sessions,
            tls,
            switchboard,
            probes,
            proxies,
            health,
            compat,
            settings,
            assets,
        }
    }

    /// Writes an entry to the audit log. A failure is reported but does not fail the request.
    async fn note(
        &self,
        caller: &Caller,
        client: Client,
        action: &'static str,
        target: &str,
        detail: String,
    ) {
        let address = address_text(Some(client.ip()));
        let event = Event { actor: caller.actor(), address, action, target: target.to_owned(), detail };
        if let Err(error) = self.accounts.note(event).await {
            tracing::error!(action, "cannot write to the audit log: {error}");
        }
    }
}

/// Names in the configuration that mean this server.
fn known_hosts(config: &Config) -> Vec<String> {
    let tls = &config.tls;
    let public = config.media.public_hosts.iter().map(|public| &public.host);
    let configured = [&config.hosts, &tls.names, &tls.domains].into_iter().flatten().chain(public);
    let mut hosts: Vec<String> = configured.map(|host| host.to_ascii_lowercase()).collect();
    hosts.extend(crate::tls::host_names());
    hosts
}

/// A TCP connection as it was accepted.
#[derive(Clone, Copy, Debug)]
pub struct Connection {
    /// The peer's address.
    pub peer: SocketAddr,
    /// Whether it uses TLS.
    pub secure: bool,
}

/// Who sent a request, taking trusted proxies into account.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    ip: IpAddr,
    /// Whether the client's connection is encrypted, by TLS here or at the proxy.
    pub secure: bool,
}

impl Client {
    /// Their address.
    pub fn ip(&self) -> IpAddr {
        self.ip
    }

    /// Whether it is this machine.
    pub fn is_local(&self) -> bool {
        self.ip.to_canonical().is_loopback()
    }
}

/// Shorter bodies are not worth compressing.
const MIN_COMPRESSED: u16 = 1024;

/// Whether a response is compressed, if it is long enough.
fn is_text(status: StatusCode, _: Version, headers: &HeaderMap, _: &Extensions) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let is_text = ["text/", "application/json", "image/svg+xml"].iter().any(|text| kind.starts_with(text));
    status == StatusCode::OK && is_text
}

/// All routes with their layers.
pub fn router(app: App) -> Router {
    let mut router = Router::new();
    for route in routes::all() {
        let guarded = guard::guard(route.handler, route.access, &app);
        router = router.route(route.path, guarded);
    }
    let front = front::Front::new(app.clone());
    let site = app.compat.on_main_port();
    let fallback = move |State(app): State<App>, request: Request| {
        let site = site.clone();
        async move {
            match old_system(&app, &site, request).await {
                Ok(response) => response,
                Err(request) => assets::serve(&app, &request.into_parts().0).await,
            }
        }
    };
    router
        .fallback(fallback)
        .method_not_allowed_fallback(error::method_not_allowed)
        .layer(CompressionLayer::new().compress_when(SizeAbove::new(MIN_COMPRESSED).and(is_text)))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(front, front::front))
        .with_state(app)
}

/// The routes of a port of older systems: nothing else is there.
pub fn site_router(app: App, site: Site, tls: bool) -> Router {
    let front = front::Front::new(app.clone());
    let fallback = move |State(app): State<App>, request: Request| {
        let site = site.clone();
        async move {
            let response = old_system(&app, &site, request).await;
            response.unwrap_or_else(|_| StatusCode::NOT_FOUND.into_response())
        }
    };
    Router::new()
        .fallback(fallback)
        .layer(DefaultBodyLimit::max(MAX_SITE_BODY))
        .layer(middleware::from_fn_with_state((front, tls), front::site_front))
        .with_state(app)
}

/// The answer of an older system, or the request if it is for none.
async fn old_system(app: &App, site: &Site, request: Request) -> Result<Response, Request> {
    if site.is_empty() {
        return Err(request);
    }
    let Some(client) = request.extensions().get::<Client>().copied() else { return Err(request) };
    let around = Around { client, now: app.accounts.clock().now(), hosts: &app.settings.hosts };
    site.respond(around, request).await
}
