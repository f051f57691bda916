//! `[compat.…]`: which older systems' clients are served, where, and to whom. What they speak is in [`crate::compat`].

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use url::Url;

use super::read::{Reader, Section};
use crate::secret::Secret;

/// One of the older systems.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Mode {
    /// The dispatch demo with numeric codes.
    Dispatch,
    /// The HTTP API of webrtc-streamer.
    WebrtcStreamer,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Dispatch, Self::WebrtcStreamer];

    /// Its name in the configuration and the API.
    pub fn key(self) -> &'static str {
        match self {
            Self::Dispatch => "dispatch",
            Self::WebrtcStreamer => "webrtc_streamer",
        }
    }
}

/// An enabled mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModeConfig {
    /// Which one.
    pub mode: Mode,
    /// Ports of its own. Without any, its paths are on the main port.
    pub listen: Vec<SocketAddr>,
    /// Whether these ports use TLS.
    pub tls: bool,
    /// The folder of the old pages, served on these ports.
    pub pages: Option<PathBuf>,
    /// The networks from which it can be used.
    pub networks: Vec<IpNet>,
    /// The first segment of all its paths.
    pub secret: Option<Secret>,
    /// Origins of other hosts whose pages may use it, such as `http://127.0.0.1:5500`, or `null`.
    pub origins: Vec<String>,
    /// Ids of the cameras that its clients may watch without a login, or `*`. Public ones always.
    pub cameras: Vec<String>,
}

/// The networks unless configured: this machine and private ones.
const DEFAULT_NETWORKS: [&str; 7] =
    ["127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fe80::/10"];
/// Shorter ones can be found by trying.
const SHORTEST_SECRET: usize = 8;

/// Reads the section; returns the modes that are enabled.
pub fn read(section: &mut Section<'_, '_>, reader: &mut Reader<'_>, folder: &Path) -> Vec<ModeConfig> {
    let mut modes = Vec::new();
    for mode in Mode::ALL {
        let mut part = section.section(reader, mode.key());
        let enabled = part.boolean(reader, "enabled").unwrap_or(false);
        let config = read_mode(mode, &mut part, reader, folder);
        part.finish(reader);
        if enabled {
            if let Some(message) = conflict(&modes, &config) {
                part.complain_about(reader, &message);
            }
            modes.push(config);
        }
    }
    section.finish(reader);
    modes
}

fn read_mode(mode: Mode, part: &mut Section<'_, '_>, reader: &mut Reader<'_>, folder: &Path) -> ModeConfig {
    let allowed = "addresses with a port, such as \"0.0.0.0:443\"";
    let listen = part.list(reader, "listen", allowed, |text| text.parse().ok()).unwrap_or_default();
    let tls = part.boolean(reader, "tls").unwrap_or(true);
    let pages = part.string(reader, "pages").filter(|text| !text.is_empty()).map(|text| folder.join(text));
    if pages.is_some() && listen.is_empty() {
        part.complain_about(reader, "pages requires listen: the main port has pages of its own");
    }
    let networks = part.networks(reader, "networks").unwrap_or_else(default_networks);
    let secret = part.string(reader, "secret").filter(|text| !text.is_empty());
    let fits = |text: &str| {
        text.len() >= SHORTEST_SECRET
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    if secret.as_deref().is_some_and(|text| !fits(text)) {
        let allowed = format!("at least {SHORTEST_SECRET} letters, digits, - and _");
        part.complain(reader, "secret", "…", &allowed);
    }
    let allowed = "origins such as \"http://127.0.0.1:5500\", or \"null\"";
    let origins = part.list(reader, "origins", allowed, origin).unwrap_or_default();
    let cameras = match mode {
        Mode::WebrtcStreamer => part.strings(reader, "cameras").unwrap_or_default(),
        Mode::Dispatch => Vec::new(),
    };
    let secret = secret.map(Secret::new);
    ModeConfig { mode, listen, tls, pages, networks, secret, origins, cameras }
}

fn default_networks() -> Vec<IpNet> {
    DEFAULT_NETWORKS.iter().filter_map(|text| text.parse().ok()).collect()
}

fn origin(text: &str) -> Option<String> {
    let is_origin = |url: Url| url.origin().ascii_serialization() == text;
    (text == "null" || Url::parse(text).is_ok_and(is_origin)).then(|| text.to_owned())
}

/// Modes may share a port if they agree on what it is.
fn conflict(modes: &[ModeConfig], new: &ModeConfig) -> Option<String> {
    let mut seen = HashSet::new();
    if let Some(twice) = new.listen.iter().find(|address| address.port() != 0 && !seen.insert(**address)) {
        return Some(format!("listen names {twice} twice"));
    }
    let shares = |other: &&ModeConfig| {
        other.tls != new.tls && other.listen.iter().any(|address| new.listen.contains(address))
    };
    let other = modes.iter().find(shares)?;
    Some(format!("shares a port with compat.{}, but only one of them has tls = false", other.mode.key()))
}
