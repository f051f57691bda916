//! Gatehouse: RTSP cameras in the browser over WebRTC, in one program with one port.
//!
//! - [`config`] reads and checks the configuration.
//! - [`streams`] pulls cameras and fans their packets out; [`media`] sends them to viewers.
//! - [`accounts`] stores users and what they may do, [`signaling`] handles presence, calls and watching between people;
//!   [`gate`] combines both, [`sessions`] terminates what is no longer allowed.
//! - [`cameras`] ties streams to the configuration; [`http`] is the API, WHEP, WHIP and the pages, [`tls`] its
//!   certificates.
//! - [`compat`] serves the browser clients of older systems.
//! - [`cli`] is the command line, [`probe`] examines a camera.
//!
//! This file is the only place where they are wired together: [`Gatehouse::start`].

pub mod accounts;
pub mod backup;
pub mod cameras;
pub mod cli;
pub mod clock;
pub mod compartment;
pub mod compat;
pub mod config;
pub mod data;
pub mod demo;
pub mod dtls_screen;
pub mod gate;
pub mod health;
pub mod http;
pub mod ids;
pub mod media;
pub mod names;
pub mod probe;
pub mod reload;
pub mod rtp;
pub mod rtsp;
pub mod secret;
pub mod sessions;
pub mod signaling;
pub mod streams;
pub mod tls;
pub mod token_bucket;
pub mod upkeep;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use accounts::{AccountError, Accounts};
use cameras::Cameras;
use compat::Compat;
use config::{CallMedia, Config, MediaAddress, TlsMode};
use data::{DataError, DataFolder};
use gate::Gate;
use health::Health;
use media::transport::socket::MediaSocket;
use media::{Engine, EngineConfig};
use secret::Secret;
use sessions::registry::{Registry, SessionLimits};
use sessions::revocation::Revocation;
use signaling::driver::Switchboard;
use signaling::grants::Grants;
use streams::Streams;
use tls::{Tls, TlsError};
use upkeep::Upkeep;

/// Attempts to find a port that is free for both TCP and UDP, if the configured port is 0.
const PORT_TRIES: usize = 16;

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The port is in use, or the system refuses a thread or a socket.
    #[error("cannot listen on {0}: {1}{hint}", hint = listen_hint(.0, .1))]
    Listen(SocketAddr, io::Error),
    /// The data folder cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The accounts cannot be read.
    #[error("accounts: {0}")]
    Accounts(#[from] AccountError),
    /// There is no certificate.
    #[error("certificate: {0}")]
    Tls(#[from] TlsError),
}

/// What helps if a port is refused.
fn listen_hint(address: &SocketAddr, error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied if address.port() < 1024 => {
            "; ports below 1024 require the capability CAP_NET_BIND_SERVICE: see the unit file, or let a proxy or router \
             forward the port"
        }
        io::ErrorKind::AddrInUse => "; another program, perhaps another Gatehouse, uses the port",
        _ => "",
    }
}

/// A running server.
pub struct Gatehouse {
    address: SocketAddr,
    accounts: Accounts,
    tls: Arc<Tls>,
    sessions: Revocation,
    first_password: Option<Secret>,
    cameras: Cameras,
    gate: Gate,
    engine: Engine,
    compat: Vec<SocketAddr>,
    stop: CancellationToken,
    _folder: Arc<DataFolder>,
}

impl Gatehouse {
    /// Starts the server with a configuration.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(config: &Config) -> Result<Self, StartError> {
        let folder = DataFolder::open(&config.data)?;
        let health = Health::default();
        let (accounts, first_password) = Accounts::open(&config.data, config.first_password.clone()).await?;
        folder.mark(&accounts).await?;
        // Before new sessions can begin.
        accounts.close_open_entries().await?;
        let public: Vec<String> =
            config.media.public_hosts.iter().map(|public| public.host.clone()).collect();
        let now = accounts.clock().now();
        let tls = Tls::start(&config.tls, &config.data, &public, now, accounts.known_authority().await?)?;
        let fail = |error| StartError::Listen(config.listen, error);
        let (listener, socket, only_this_host) = bind(config).await.map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        let stop = CancellationToken::new();
        let (endings, ended) = mpsc::unbounded_channel();
        let settings = engine_config(config, address, only_this_host);
        let engine = Engine::start(socket, &settings, endings, stop.clone()).map_err(fail)?;
        engine.refresh_addresses().await;
        tls.refresh(accounts.clock().now(), &engine.addresses());
        let (streams, grants) = (Streams::new(config.media.gop_cache), Grants::default());
        let cameras = Cameras::new(streams.clone(), engine.clone(), accounts.clone());
        cameras.apply(config).await?;
        let switchboard =
            Switchboard::start(accounts.clone(), client_config(config), grants.clone(), stop.clone()).await?;
        let gate = Gate::new(accounts.clone(), cameras.clone(), streams, grants);
        let registry = Registry::new(session_limits(config));
        let sessions =
            Revocation::new(registry, accounts.clone(), gate.clone(), engine.clone(), switchboard.clone());
        sessions.run(ended, &stop);
        let folder = Arc::new(folder);
        let upkeep = Upkeep {
            accounts: accounts.clone(),
            keep_log: config.keep_log,
            tls: tls.clone(),
            engine: engine.clone(),
            folder: Arc::downgrade(&folder),
            data: config.data.clone(),
            health: health.clone(),
        };
        upkeep.run(&stop);
        let old = compat::Parts {
            cameras: cameras.clone(),
            gate: gate.clone(),
            engine: engine.clone(),
            sessions: sessions.clone(),
            ice_servers: config.media.ice_servers.clone().into(),
        };
        let parts = http::Parts {
            accounts: accounts.clone(),
            cameras: cameras.clone(),
            gate: gate.clone(),
            engine: engine.clone(),
            sessions: sessions.clone(),
            tls: tls.clone(),
            switchboard,
            health: health.clone(),
            compat: Compat::new(&config.compat, &old),
        };
        let app = http::App::new(config, address, parts);
        let compat = serve_compat(&app, config.tls.mode, &stop).await?;
        let router = http::router(app.clone());
        tokio::spawn(http::serve::serve(listener, app, router, stop.clone()));
        Ok(Self {
            address,
            accounts,
            tls,
            sessions,
            first_password,
            cameras,
            gate,
            engine,
            compat,
            stop,
            _folder: folder,
        })
    }

    /// The ports of older systems, in the order of [`Compat::sites`].
    pub fn compat_addresses(&self) -> &[SocketAddr] {
        &self.compat
    }

    /// The accounts.
    pub fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// The certificates.
    pub fn tls(&self) -> &Tls {
        &self.tls
    }

    /// The running sessions and their revocation.
    pub fn sessions(&self) -> &Revocation {
        &self.sessions
    }

    /// The first admin's password, if this start generated it: to be shown once.
    pub fn first_password(&self) -> Option<&Secret> {
        self.first_password.as_ref()
    }

    /// The listen address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The cameras.
    pub fn cameras(&self) -> &Cameras {
        &self.cameras
    }

    /// Who may watch and publish what.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// The media engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Stops the server. Viewers are notified.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// After [`Self::stop`]: ends what the audit log has as running, and moves everything into the one database file, so
    /// that a copy of it is whole.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn close(&self) -> Result<(), AccountError> {
        self.accounts.end_open_entries().await?;
        self.accounts.remember_authority(self.tls.known_authority()).await?;
        self.accounts.checkpoint().await
    }
}

impl Drop for Gatehouse {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The call settings for pages.
fn client_config(config: &Config) -> serde_json::Value {
    let servers = config.media.ice_servers.iter().map(|server| {
        let mut entry = serde_json::json!({ "urls": server.urls });
        if let (Some(username), Some(credential)) = (&server.username, &server.credential) {
            entry["username"] = username.as_str().into();
            entry["credential"] = credential.expose().into();
        }
        entry
    });
    let media = match config.calls {
        CallMedia::Auto => "auto",
        CallMedia::Peer => "peer",
        CallMedia::Server => "server",
    };
    serde_json::json!({ "ice_servers": servers.collect::<Vec<_>>(), "media": media })
}

fn session_limits(config: &Config) -> SessionLimits {
    SessionLimits {
        total: config.media.max_viewers,
        per_account: config.limits.sessions_per_account,
        per_address: config.limits.sessions_per_address,
        public_per_address: config.limits.public_sessions_per_address,
    }
}

fn engine_config(config: &Config, tcp: SocketAddr, only_this_host: bool) -> EngineConfig {
    let public = config.media.public_hosts.iter().cloned();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    EngineConfig {
        shards: if config.media.threads == 0 { cores } else { config.media.threads },
        max_viewers: config.media.max_viewers,
        public_hosts: public.map(|public| (public.host, public.port)).collect(),
        advertise_port: config.media.advertise_port,
        tcp,
        only_this_host,
    }
}

/// Opens the ports of the older systems. Returns their addresses.
async fn serve_compat(
    app: &http::App,
    mode: TlsMode,
    stop: &CancellationToken,
) -> Result<Vec<SocketAddr>, StartError> {
    let mut addresses = Vec::new();
    for (wanted, tls, site) in app.compat.sites() {
        let fail = |error| StartError::Listen(wanted, error);
        let listener = TcpListener::bind(wanted).await.map_err(fail)?;
        addresses.push(listener.local_addr().map_err(fail)?);
        let router = http::site_router(app.clone(), site, tls && mode != TlsMode::Off);
        tokio::spawn(http::serve::serve(listener, app.clone(), router, stop.clone()));
    }
    Ok(addresses)
}

/// Binds TCP, and UDP to the same port unless configured otherwise. Whether media is only for this host.
async fn bind(config: &Config) -> io::Result<(TcpListener, MediaSocket, bool)> {
    let mut tries = if config.listen.port() == 0 { PORT_TRIES } else { 1 };
    loop {
        let listener = TcpListener::bind(config.listen).await?;
        let http = listener.local_addr()?;
        let MediaAddress { address, only_this_host } = config.media_address(http);
        match MediaSocket::bind(address) {
            Ok(socket) => return Ok((listener, socket, only_this_host)),
            Err(error) if tries == 1 => {
                return Err(io::Error::new(error.kind(), format!("UDP on {address}: {error}")));
            }
            Err(_) => tries -= 1,
        }
    }
}
