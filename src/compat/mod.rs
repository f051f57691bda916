//! The older systems whose browser clients run against this server unmodified. Each mode is an adapter with a pure
//! part, over the same accounts, cameras and media engine as everything else, and is off unless configured. None of
//! their protocols has a login worth the name: what they reach is limited by network, by secret, and to what the mode
//! shows. `site` is where the old pages look for their server, `clients` who is connected, `socket` their WebSockets.
//!
//! Start at [`Compat::new`] and [`site::Site::respond`].

pub mod clients;
mod dispatch;
mod pages;
pub mod site;
mod socket;
mod webrtc_streamer;

use std::net::SocketAddr;
use std::sync::Arc;

use serde::Serialize;
use tracing::warn;

use crate::cameras::Cameras;
use crate::config::{IceServer, Mode, ModeConfig};
use crate::gate::Gate;
use crate::media::Engine;
use crate::sessions::revocation::Revocation;
use clients::Clients;
use site::{Adapter, Kind, Site};
use webrtc_streamer::Streamer;

/// A mode that is switched on, as Administration shows it.
#[derive(Clone, Debug, Serialize)]
pub struct ModeView {
    /// Its key in the configuration.
    pub mode: &'static str,
    /// Its own ports, or none if it is on the main port.
    pub listen: Vec<String>,
    /// From where it can be used.
    pub networks: Vec<String>,
    /// Whether its paths begin with a secret.
    pub has_secret: bool,
    /// Ids of the cameras that it shows besides the public ones, or `*`; `None` if it shows none at all.
    pub cameras: Option<Vec<String>>,
}

/// What the adapters are built on. Cheap to clone.
#[derive(Clone)]
pub struct Parts {
    /// The cameras.
    pub cameras: Cameras,
    /// Who may watch what.
    pub gate: Gate,
    /// The media engine.
    pub engine: Engine,
    /// Running sessions.
    pub sessions: Revocation,
    /// STUN and TURN servers for browsers.
    pub ice_servers: Arc<[IceServer]>,
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Compat {
    clients: Clients,
    adapters: Arc<Vec<Arc<Adapter>>>,
}

impl Compat {
    /// Creates the adapters of all modes that are switched on.
    pub fn new(modes: &[ModeConfig], parts: &Parts) -> Self {
        let clients = Clients::default();
        let adapters = modes.iter().map(|config| {
            warn!(mode = config.mode.key(), "{}", warning(config));
            if let Some(pages) = config.pages.as_ref().filter(|pages| !pages.is_dir()) {
                warn!(mode = config.mode.key(), "pages: there is no folder {}", pages.display());
            }
            let kind = match config.mode {
                Mode::Dispatch => Kind::Dispatch(dispatch::Dispatch::default()),
                Mode::WebrtcStreamer => {
                    Kind::WebrtcStreamer(Box::new(Streamer::new(config, clients.clone(), parts.clone())))
                }
            };
            Arc::new(Adapter { config: config.clone(), kind, clients: clients.clone() })
        });
        Self { adapters: Arc::new(adapters.collect()), clients }
    }

    /// The connected clients.
    pub fn clients(&self) -> &Clients {
        &self.clients
    }

    /// The modes that are switched on.
    pub fn modes(&self) -> Vec<ModeView> {
        let view = |adapter: &Arc<Adapter>| ModeView {
            mode: adapter.config.mode.key(),
            listen: adapter.config.listen.iter().map(ToString::to_string).collect(),
            networks: adapter.config.networks.iter().map(ToString::to_string).collect(),
            has_secret: adapter.config.secret.is_some(),
            cameras: (adapter.config.mode == Mode::WebrtcStreamer).then(|| adapter.config.cameras.clone()),
        };
        self.adapters.iter().map(view).collect()
    }

    /// What is on the main port.
    pub fn on_main_port(&self) -> Site {
        let without = self.adapters.iter().filter(|adapter| adapter.config.listen.is_empty());
        Site::new(without.cloned().collect())
    }

    /// The ports of their own, whether they use TLS, and what is on them.
    pub fn sites(&self) -> Vec<(SocketAddr, bool, Site)> {
        let mut sites: Vec<(SocketAddr, bool, Vec<Arc<Adapter>>)> = Vec::new();
        for adapter in self.adapters.iter() {
            for address in &adapter.config.listen {
                match sites.iter_mut().find(|(known, ..)| known == address && address.port() != 0) {
                    Some((.., adapters)) => adapters.push(adapter.clone()),
                    None => sites.push((*address, adapter.config.tls, vec![adapter.clone()])),
                }
            }
        }
        sites.into_iter().map(|(address, tls, adapters)| (address, tls, Site::new(adapters))).collect()
    }
}

/// What switching on a mode means, for the log at the start.
fn warning(config: &ModeConfig) -> String {
    let networks: Vec<String> = config.networks.iter().map(ToString::to_string).collect();
    let from = if networks.is_empty() { "no network".to_owned() } else { networks.join(", ") };
    let secret = if config.secret.is_some() { " who knows its secret" } else { "" };
    let what = match config.mode {
        Mode::Dispatch => "can open and join dispatch rooms without a login",
        Mode::WebrtcStreamer => "can watch, without a login, the cameras that the mode shows",
    };
    format!("an older system's protocol is switched on: everybody at {from}{secret} {what}")
}
