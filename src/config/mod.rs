//! The configuration: parses TOML text into a validated [`Config`], or reports all of its problems. `read` walks the
//! text and tracks positions; this file defines the keys. It opens no sockets and starts nothing. Start at
//! [`Config::parse`].

mod base_path;
mod camera;
mod compat;
mod environment;
mod media;
mod read;
mod tls;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use url::Url;

use crate::names::StreamName;
use crate::streams::source::Secret;
use crate::streams::spec::StreamSpec;
pub use base_path::BasePath;
pub use camera::{CameraConfig, is_source, is_sub_of, source, sub_source};
pub use compat::{Mode, ModeConfig};
pub use environment::variables;
use environment::{Expansion, Layer};
pub use media::{IceServer, MediaAddress, MediaConfig, PublicHost};
pub use read::{Problem, Problems};
use read::{Reader, Section};
pub use tls::{TlsConfig, TlsMode};

/// The default listen address: all interfaces, since access requires a login.
pub const DEFAULT_LISTEN: &str = "0.0.0.0:8443";
/// The path that stands for standard input.
pub const STANDARD_INPUT: &str = "-";
/// Allowed retention of the audit log.
const KEEP_LOG: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(3600)..=Duration::from_secs(3650 * 86_400);

/// The complete, validated configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The address for TCP; that for UDP follows from it, see [`MediaConfig::address`].
    pub listen: SocketAddr,
    /// The folder for the database and certificates.
    pub data: PathBuf,
    /// A filter of the tracing crate.
    pub log: String,
    /// Origins, such as `https://intranet.example`, whose pages may show cameras in frames; or `*`.
    pub embed_from: Vec<String>,
    /// Names by which browsers reach it, beside its own: without TLS, others are refused.
    pub hosts: Vec<String>,
    /// Proxies whose word about a client's address is taken.
    pub trusted_proxies: Vec<IpNet>,
    /// The sub-path under which proxies serve it, if they do not remove it or do not name it.
    pub base_path: BasePath,
    /// Retention of the audit log and the call history.
    pub keep_log: Duration,
    /// The first admin's password, instead of a random one. Only from the environment.
    pub first_password: Option<Secret>,
    /// HTTPS.
    pub tls: TlsConfig,
    /// Limits on connections, requests and sessions.
    pub limits: Limits,
    /// Settings of the media engine.
    pub media: MediaConfig,
    /// How call media is routed.
    pub calls: CallMedia,
    /// The older systems that are switched on.
    pub compat: Vec<ModeConfig>,
    /// In the order of the file.
    pub cameras: Vec<CameraConfig>,
    /// Files that values were read from.
    pub files: Vec<PathBuf>,
}

/// `[limits]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Concurrent TCP connections.
    pub connections: usize,
    /// Concurrent TCP connections per address.
    pub connections_per_address: usize,
    /// Sustained HTTP requests per second and address; bursts may be ten times as large.
    pub requests_per_second: u32,
    /// Concurrent watched and published streams per account, except for dispatchers and administrators.
    pub sessions_per_account: usize,
    /// Concurrent watched and published streams per address; dispatchers and administrators are exempt.
    pub sessions_per_address: usize,
    /// Concurrent streams of public cameras per address, without a login.
    pub public_sessions_per_address: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16_384,
            connections_per_address: 1_024,
            requests_per_second: 100,
            sessions_per_account: 200,
            sessions_per_address: 500,
            public_sessions_per_address: 256,
        }
    }
}

/// `[calls]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CallMedia {
    /// Directly between the browsers, falling back to the server.
    #[default]
    Auto,
    /// Only directly between the browsers.
    Peer,
    /// Always through the server.
    Server,
}

/// What overrides the file: command line flags and environment variables.
#[derive(Clone, Default)]
pub struct Overrides {
    /// `GATEHOUSE_…` variables.
    pub environment: HashMap<String, String>,
    /// `--listen`.
    pub listen: Option<SocketAddr>,
    /// `--data`.
    pub data: Option<PathBuf>,
    /// `--new-authority`.
    pub new_authority: bool,
}

impl std::fmt::Debug for Overrides {
    /// Without the variables' values: some are passwords.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let variables: Vec<&String> = self.environment.keys().collect();
        f.debug_struct("Overrides")
            .field("environment", &variables)
            .field("listen", &self.listen)
            .finish_non_exhaustive()
    }
}

impl Overrides {
    /// Whether the data folder is named by a flag or a variable.
    pub fn names_data(&self) -> bool {
        self.data.is_some() || self.environment.contains_key("GATEHOUSE_DATA")
    }

    /// The value of any environment variable.
    fn variable(&self, name: &str) -> Option<String> {
        self.environment.get(name).cloned().or_else(|| std::env::var(name).ok())
    }
}

impl Config {
    /// Reads a file, or uses the defaults if there is none.
    ///
    /// # Errors
    /// All problems in the file.
    pub fn load(path: Option<&Path>, overrides: &Overrides) -> Result<Self, Problems> {
        let Some(path) = path else { return Self::parse("", "the command line", Path::new("."), overrides) };
        if path == Path::new(STANDARD_INPUT) {
            let name = "standard input";
            let text = std::io::read_to_string(std::io::stdin());
            let text = text.map_err(|error| Problems::one(Problem::of_file(name, error.to_string())))?;
            return Self::parse(&text, name, Path::new("."), overrides);
        }
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| Problems::one(Problem::of_file(&name, format!("cannot be read: {error}"))))?;
        Self::parse(&text, &name, path.parent().unwrap_or(Path::new(".")), overrides)
    }

    /// Parses and validates a text. Relative paths in it are resolved against `folder`.
    ///
    /// # Errors
    /// All problems in the text.
    pub fn parse(text: &str, name: &str, folder: &Path, overrides: &Overrides) -> Result<Self, Problems> {
        let layer = Layer::new(&overrides.environment);
        let variable = |name: &str| overrides.variable(name);
        let mut expansion = Expansion { variable: &variable, folder, files: Vec::new() };
        let mut reader = Reader::new(text, name, &layer);
        let root = reader.root(&mut expansion);
        let mut root = Section::new(&root, "");
        let mut server = root.section(&mut reader, "server");
        let listen = server.parsed(&mut reader, "listen", "an address with a port, such as 0.0.0.0:8443");
        let data = server.string(&mut reader, "data");
        let log = server.string(&mut reader, "log");
        let embed_from = embed_from(&mut server, &mut reader);
        let trusted_proxies = server.networks(&mut reader, "trusted_proxies").unwrap_or_default();
        let hosts = server.list(&mut reader, "hosts", tls::HOSTS, tls::host).unwrap_or_default();
        let base_path = server.parsed_with(&mut reader, "base_path", BasePath::ALLOWED, BasePath::parse);
        let keep_log = server.duration(&mut reader, "keep_log", KEEP_LOG);
        server.finish(&mut reader);
        let tls = tls::read(&mut root.section(&mut reader, "tls"), &mut reader, folder);
        let limits = limits(&mut root.section(&mut reader, "limits"), &mut reader);
        let media = media::read(&mut root.section(&mut reader, "media"), &mut reader);
        let calls = calls(&mut root.section(&mut reader, "calls"), &mut reader);
        let compat = compat::read(&mut root.section(&mut reader, "compat"), &mut reader, folder);
        let mut cameras = camera::read(&mut root, &mut reader, &mut expansion);
        for camera in &mut cameras {
            camera.spec.check_interval = media.check_interval;
        }
        root.finish(&mut reader);
        let mut config = Self {
            listen: listen.or_else(|| DEFAULT_LISTEN.parse().ok()).unwrap_or(([127, 0, 0, 1], 8443).into()),
            data: data.unwrap_or_else(|| "data".into()).into(),
            log: log.unwrap_or_else(|| "warn,gatehouse=info".into()),
            embed_from,
            hosts,
            trusted_proxies,
            base_path: base_path.unwrap_or_default(),
            keep_log: keep_log.unwrap_or(Duration::from_secs(90 * 86_400)),
            first_password: None,
            tls,
            limits,
            media,
            calls,
            compat,
            cameras,
            files: Vec::new(),
        };
        config.override_with(overrides, &mut expansion, &mut reader);
        config.files = expansion.files;
        config.check_tls(&mut reader);
        reader.finish(config)
    }

    fn override_with(
        &mut self,
        overrides: &Overrides,
        expansion: &mut Expansion<'_>,
        reader: &mut Reader<'_>,
    ) {
        let password = "GATEHOUSE_ADMIN_PASSWORD";
        if let Some(text) = overrides.environment.get(password) {
            match expansion.expand(text) {
                Ok(expanded) => {
                    let text = expanded.unwrap_or_else(|| text.clone());
                    self.first_password = Some(Secret::new(text));
                }
                Err(message) => reader.problem(Problem::of_variable(password, message)),
            }
        }
        self.tls.new_authority = overrides.new_authority;
        if let Some(listen) = overrides.listen {
            self.listen = listen;
        }
        if let Some(data) = &overrides.data {
            self.data.clone_from(data);
        }
    }

    /// Checks `[tls]` once all overrides have been applied.
    fn check_tls(&self, reader: &mut Reader<'_>) {
        if let Some(message) = self.tls.problem(self.listen) {
            reader.problem(Problem { place: "[tls]".into(), message });
        }
    }

    /// Where media is received, if HTTP listens on `http`.
    pub fn media_address(&self, http: SocketAddr) -> MediaAddress {
        self.media.address(http, !self.trusted_proxies.is_empty())
    }

    /// The streams of all enabled cameras.
    pub fn streams(&self) -> Vec<(StreamName, StreamSpec)> {
        let enabled = self.cameras.iter().filter(|camera| camera.enabled);
        enabled.filter_map(|camera| Some((camera.stream_id()?, camera.spec.clone()))).collect()
    }
}

fn embed_from(section: &mut Section<'_, '_>, reader: &mut Reader<'_>) -> Vec<String> {
    let allowed = "origins such as \"https://intranet.example\", or \"*\"";
    let origin = |text: &str| {
        let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let fits = text == "*" || url.is_some_and(|url| url.origin().ascii_serialization() == text);
        fits.then(|| text.to_owned())
    };
    section.list(reader, "embed_from", allowed, origin).unwrap_or_default()
}

fn limits(section: &mut Section<'_, '_>, reader: &mut Reader<'_>) -> Limits {
    let defaults = Limits::default();
    let connections = section.integer(reader, "connections", 16..=1_000_000);
    let per_address = section.integer(reader, "connections_per_address", 8..=1_000_000);
    let requests = section.integer(reader, "requests_per_second", 1..=1_000_000);
    let mut sessions =
        |key, default| section.integer(reader, key, 1..=100_000).map_or(default, |value| value as usize);
    let sessions_per_account = sessions("sessions_per_account", defaults.sessions_per_account);
    let sessions_per_address = sessions("sessions_per_address", defaults.sessions_per_address);
    let public_sessions_per_address =
        sessions("public_sessions_per_address", defaults.public_sessions_per_address);
    section.finish(reader);
    Limits {
        connections: connections.map_or(defaults.connections, |value| value as usize),
        connections_per_address: per_address.map_or(defaults.connections_per_address, |value| value as usize),
        requests_per_second: requests.map_or(defaults.requests_per_second, |value| value as u32),
        sessions_per_account,
        sessions_per_address,
        public_sessions_per_address,
    }
}

fn calls(section: &mut Section<'_, '_>, reader: &mut Reader<'_>) -> CallMedia {
    let media = section.one_of(reader, "media", &["auto", "peer", "server"]);
    section.finish(reader);
    match media {
        Some(1) => CallMedia::Peer,
        Some(2) => CallMedia::Server,
        _ => CallMedia::Auto,
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
