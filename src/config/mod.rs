//! The configuration: TOML text in, a checked [`Config`] or all of its problems out. `read` walks the text and
//! knows positions; this file knows the keys. It opens no sockets and starts nothing. Start at [`Config::parse`].

mod read;
mod tls;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use url::Url;

use crate::accounts::permissions::Subject;
use crate::ids::{StreamId, is_name};
use crate::secret::split_credentials;
use crate::streams::source::{Secret, SourceSpec, Transport};
use crate::streams::stream::StreamSpec;
pub use read::{Problem, Problems};
use read::{Reader, Section};
pub use tls::{TlsConfig, TlsMode};

/// Where it listens when nothing is said: everywhere, since nobody gets in without a login.
pub const DEFAULT_LISTEN: &str = "0.0.0.0:8443";
/// How long the log may be kept.
const KEEP_LOG: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(3600)..=Duration::from_secs(3650 * 86_400);
/// Cameras in one file.
const MAX_CAMERAS: usize = 10_000;

/// Everything that can be configured, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The one address: TCP and UDP.
    pub listen: SocketAddr,
    /// Where state is kept.
    pub data: PathBuf,
    /// A filter of the tracing crate.
    pub log: String,
    /// Origins, such as `https://intranet.example`, whose pages may show cameras in frames; or `*`.
    pub embed_from: Vec<String>,
    /// Proxies whose word about a client's address is taken.
    pub trusted_proxies: Vec<IpNet>,
    /// How long the log of who did what is kept.
    pub keep_log: Duration,
    /// For the first admin, instead of a random one. Only from the environment.
    pub first_password: Option<Secret>,
    /// HTTPS.
    pub tls: TlsConfig,
    /// Of connections and requests.
    pub limits: Limits,
    /// Of the media engine.
    pub media: MediaConfig,
    /// In the order of the file.
    pub cameras: Vec<CameraConfig>,
}

/// `[limits]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// TCP connections at once.
    pub connections: usize,
    /// TCP connections of one address at once.
    pub connections_per_address: usize,
    /// HTTP requests of one address per second, sustained; ten times as many in a burst.
    pub requests_per_second: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 16_384, connections_per_address: 1_024, requests_per_second: 100 }
    }
}

/// `[media]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaConfig {
    /// Names and addresses by which viewers reach this machine beside its own.
    pub public_hosts: Vec<String>,
    /// Viewers at once.
    pub max_viewers: usize,
    /// Threads; 0 for one a core.
    pub threads: usize,
    /// STUN and TURN servers that viewers are told of.
    pub ice_servers: Vec<IceServer>,
}

/// `[[media.ice_server]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IceServer {
    /// `stun:…`, `turn:…` or `turns:…`.
    pub urls: Vec<String>,
    /// For TURN.
    pub username: Option<String>,
    /// For TURN.
    pub credential: Option<Secret>,
}

/// `[[camera]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CameraConfig {
    /// Its name in URLs.
    pub id: String,
    /// Its name on the page.
    pub name: String,
    /// Whether it is there at all.
    pub enabled: bool,
    /// Whether it is watched without a login.
    pub public: bool,
    /// Who may watch it; if nothing is said, the page decides.
    pub allow: Option<Vec<Subject>>,
    /// How its stream is run.
    pub spec: StreamSpec,
}

impl CameraConfig {
    /// Its stream.
    pub fn stream_id(&self) -> Option<StreamId> {
        StreamId::camera(&self.id)
    }
}

/// What may override the file: the command line's flags and the environment.
#[derive(Clone, Default)]
pub struct Overrides {
    /// `GATEHOUSE_…` variables.
    pub environment: HashMap<String, String>,
    /// `--listen`.
    pub listen: Option<SocketAddr>,
    /// `--data`.
    pub data: Option<PathBuf>,
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

/// Variables and the keys that they override.
const VARIABLES: [(&str, &str); 7] = [
    ("GATEHOUSE_LISTEN", "server.listen"),
    ("GATEHOUSE_DATA", "server.data"),
    ("GATEHOUSE_LOG", "server.log"),
    ("GATEHOUSE_PUBLIC_HOSTS", "media.public_hosts"),
    ("GATEHOUSE_MAX_VIEWERS", "media.max_viewers"),
    ("GATEHOUSE_THREADS", "media.threads"),
    ("GATEHOUSE_TLS", "tls.mode"),
];

impl Config {
    /// Reads a file, or takes the defaults if there is none.
    ///
    /// # Errors
    /// All problems of the file.
    pub fn load(path: Option<&Path>, overrides: &Overrides) -> Result<Self, Problems> {
        let Some(path) = path else { return Self::parse("", "the command line", Path::new("."), overrides) };
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| Problems::one(Problem::of_file(&name, format!("cannot be read: {error}"))))?;
        Self::parse(&text, &name, path.parent().unwrap_or(Path::new(".")), overrides)
    }

    /// Checks a text. `folder` is what relative paths in it start from.
    ///
    /// # Errors
    /// All problems of the text.
    pub fn parse(text: &str, name: &str, folder: &Path, overrides: &Overrides) -> Result<Self, Problems> {
        let mut reader = Reader::new(text, name);
        let root = reader.root();
        let mut root = Section::new(&root, "");
        let mut server = root.section(&mut reader, "server");
        let listen = server.parsed(&mut reader, "listen", "an address with a port, such as 0.0.0.0:8443");
        let data = server.string(&mut reader, "data");
        let log = server.string(&mut reader, "log");
        let embed_from = embed_from(&mut server, &mut reader);
        let trusted_proxies = trusted_proxies(&mut server, &mut reader);
        let keep_log = server.duration(&mut reader, "keep_log", KEEP_LOG);
        server.finish(&mut reader);
        let tls = tls::read(&mut root.section(&mut reader, "tls"), &mut reader, folder);
        let limits = limits(&mut root.section(&mut reader, "limits"), &mut reader);
        let media = media(&mut root.section(&mut reader, "media"), &mut reader);
        let cameras = cameras(&mut root, &mut reader, folder, overrides);
        root.finish(&mut reader);
        let mut config = Self {
            listen: listen.or_else(|| DEFAULT_LISTEN.parse().ok()).unwrap_or(([127, 0, 0, 1], 8443).into()),
            data: data.unwrap_or_else(|| "data".into()).into(),
            log: log.unwrap_or_else(|| "warn,gatehouse=info".into()),
            embed_from,
            trusted_proxies,
            keep_log: keep_log.unwrap_or(Duration::from_secs(90 * 86_400)),
            first_password: None,
            tls,
            limits,
            media,
            cameras,
        };
        config.override_with(overrides, &mut reader);
        config.check_tls(&mut reader);
        reader.finish(config)
    }

    fn override_with(&mut self, overrides: &Overrides, reader: &mut Reader<'_>) {
        for (variable, value) in &overrides.environment {
            let bad = |allowed: &str| Problem::of_variable(variable, value, allowed);
            match variable.as_str() {
                "GATEHOUSE_LISTEN" => match value.parse() {
                    Ok(listen) => self.listen = listen,
                    Err(_) => reader.problem(bad("an address with a port, such as 0.0.0.0:8443")),
                },
                "GATEHOUSE_DATA" => self.data = value.into(),
                "GATEHOUSE_LOG" => self.log.clone_from(value),
                "GATEHOUSE_PUBLIC_HOSTS" => {
                    self.media.public_hosts = value.split(',').map(|host| host.trim().to_owned()).collect();
                }
                "GATEHOUSE_MAX_VIEWERS" => match value.parse() {
                    Ok(limit) if limit > 0 => self.media.max_viewers = limit,
                    _ => reader.problem(bad("a number from 1")),
                },
                "GATEHOUSE_TLS" => match TlsMode::parse(value) {
                    Some(mode) => self.tls.mode = mode,
                    None => reader.problem(bad(TlsMode::ALLOWED)),
                },
                "GATEHOUSE_ADMIN_PASSWORD" => self.first_password = Some(Secret::new(value)),
                "GATEHOUSE_THREADS" => match value.parse() {
                    Ok(threads) if threads <= 64 => self.media.threads = threads,
                    _ => reader.problem(bad("a number from 0 to 64")),
                },
                _ => {}
            }
        }
        if let Some(listen) = overrides.listen {
            self.listen = listen;
        }
        if let Some(data) = &overrides.data {
            self.data.clone_from(data);
        }
    }

    /// What only the whole shows.
    fn check_tls(&self, reader: &mut Reader<'_>) {
        if let Some(message) = self.tls.problem(self.listen) {
            reader.problem(Problem { place: "[tls]".into(), message });
        }
    }

    /// The streams of all cameras that are enabled.
    pub fn streams(&self) -> Vec<(StreamId, StreamSpec)> {
        let enabled = self.cameras.iter().filter(|camera| camera.enabled);
        enabled.filter_map(|camera| Some((camera.stream_id()?, camera.spec.clone()))).collect()
    }
}

impl Default for MediaConfig {
    fn default() -> Self {
        Self { public_hosts: Vec::new(), max_viewers: 1000, threads: 0, ice_servers: Vec::new() }
    }
}

/// The variables that are known, for `--help`.
pub fn variables() -> impl Iterator<Item = (&'static str, &'static str)> {
    VARIABLES.into_iter()
}

fn embed_from(section: &mut Section<'_, '_>, reader: &mut Reader<'_>) -> Vec<String> {
    let origins = section.strings(reader, "embed_from").unwrap_or_default();
    let fits = |origin: &str| {
        let url = Url::parse(origin).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        origin == "*" || url.is_some_and(|url| url.origin().ascii_serialization() == origin)
    };
    for origin in origins.iter().filter(|origin| !fits(origin)) {
        section.complain(
            reader,
            "embed_from",
            origin,
            "origins such as \"https://intranet.example\", or \"*\"",
        );
    }
    origins
}

fn trusted_proxies(section: &mut Section<'_, '_>, reader: &mut Reader<'_>) -> Vec<IpNet> {
    let texts = section.strings(reader, "trusted_proxies").unwrap_or_default();
    let mut networks = Vec::new();
    for text in texts {
        match text.parse::<IpNet>().or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from)) {
            Ok(network) => networks.push(network),
            Err(_) => section.complain(
                reader,
                "trusted_proxies",
                &text,
                "addresses or networks such as \"127.0.0.1\" or \"10.0.0.0/8\"",
            ),
        }
    }
    networks
}

fn limits(section: &mut Section<'_, '_>, reader: &mut Reader<'_>) -> Limits {
    let defaults = Limits::default();
    let connections = section.integer(reader, "connections", 16..=1_000_000);
    let per_address = section.integer(reader, "connections_per_address", 8..=1_000_000);
    let requests = section.integer(reader, "requests_per_second", 1..=1_000_000);
    section.finish(reader);
    Limits {
        connections: connections.map_or(defaults.connections, |value| value as usize),
        connections_per_address: per_address.map_or(defaults.connections_per_address, |value| value as usize),
        requests_per_second: requests.map_or(defaults.requests_per_second, |value| value as u32),
    }
}

fn media(section: &mut Section<'_, '_>, reader: &mut Reader<'_>) -> MediaConfig {
    let defaults = MediaConfig::default();
    let public_hosts = section.strings(reader, "public_hosts").unwrap_or_default();
    let max_viewers = section.integer(reader, "max_viewers", 1..=100_000);
    let threads = section.integer(reader, "threads", 0..=64);
    let mut ice_servers = Vec::new();
    for mut server in section.sections(reader, "ice_server") {
        let urls = server.strings(reader, "urls").unwrap_or_default();
        let schemes = ["stun:", "stuns:", "turn:", "turns:"];
        for url in urls.iter().filter(|url| !schemes.iter().any(|scheme| url.starts_with(scheme))) {
            server.complain(reader, "urls", url, "addresses that begin with stun:, turn: or turns:");
        }
        let username = server.string(reader, "username");
        let credential = server.string(reader, "credential").map(Secret::new);
        server.finish(reader);
        ice_servers.push(IceServer { urls, username, credential });
    }
    section.finish(reader);
    MediaConfig {
        public_hosts,
        max_viewers: max_viewers.map_or(defaults.max_viewers, |value| value as usize),
        threads: threads.map_or(defaults.threads, |value| value as usize),
        ice_servers,
    }
}

fn cameras(
    root: &mut Section<'_, '_>,
    reader: &mut Reader<'_>,
    folder: &Path,
    overrides: &Overrides,
) -> Vec<CameraConfig> {
    let mut cameras: Vec<CameraConfig> = Vec::new();
    for mut section in root.sections(reader, "camera").into_iter().take(MAX_CAMERAS) {
        let Some(camera) = camera(&mut section, reader, folder, overrides) else { continue };
        if cameras.iter().any(|other| other.id == camera.id) {
            section.complain(reader, "id", &camera.id, "an id that no camera before it has");
            continue;
        }
        cameras.push(camera);
    }
    cameras
}

fn camera(
    section: &mut Section<'_, '_>,
    reader: &mut Reader<'_>,
    folder: &Path,
    overrides: &Overrides,
) -> Option<CameraConfig> {
    let id = section.required_string(reader, "id");
    if let Some(id) = id.as_ref().filter(|id| !is_name(id)) {
        section.complain(
            reader,
            "id",
            id,
            "1 to 64 letters, digits, '.', '_' or '-', not beginning with '.'",
        );
    }
    let name = section.string(reader, "name");
    let url = section.required_string(reader, "url");
    let username = section.string(reader, "username");
    let password = password(section, reader, folder, overrides);
    let token = section.string(reader, "token").map(Secret::new);
    let transport = section.one_of(reader, "transport", &["tcp", "udp"]);
    let on_demand = section.boolean(reader, "on_demand").unwrap_or(true);
    let idle_timeout = section.duration(reader, "idle_timeout", Duration::ZERO..=Duration::from_secs(86_400));
    let gop_cache = section.integer(reader, "gop_cache_kib", 0..=65_536);
    let enabled = section.boolean(reader, "enabled").unwrap_or(true);
    let public = section.boolean(reader, "public").unwrap_or(false);
    let allow = allow(section, reader);
    let transport = match transport {
        Some(1) => Transport::Udp,
        _ => Transport::Tcp,
    };
    let url = url.and_then(|url| source_url(section, reader, &url));
    section.finish(reader);
    let (id, url) = (id.filter(|id| is_name(id))?, url?);
    let mut spec = StreamSpec::new(source(url, username, password, token, transport), on_demand);
    spec.idle_timeout = idle_timeout.unwrap_or(spec.idle_timeout);
    spec.gop_cache = gop_cache.map_or(spec.gop_cache, |kib| kib as usize * 1024);
    Some(CameraConfig {
        name: name.filter(|name| !name.trim().is_empty()).unwrap_or_else(|| id.clone()),
        id,
        enabled,
        public,
        allow,
        spec,
    })
}

fn allow(section: &mut Section<'_, '_>, reader: &mut Reader<'_>) -> Option<Vec<Subject>> {
    let texts = section.strings(reader, "allow")?;
    let mut subjects = Vec::new();
    for text in texts {
        match text.parse() {
            Ok(subject) => subjects.push(subject),
            Err(()) => section.complain(reader, "allow", &text, Subject::ALLOWED),
        }
    }
    Some(subjects)
}

fn source_url(section: &Section<'_, '_>, reader: &mut Reader<'_>, text: &str) -> Option<Url> {
    let allowed = "rtsp://host[:port]/path, whep://host/path (over http) or wheps://host/path (over https)";
    let parsed = Url::parse(text).ok();
    let fits = |url: &Url| matches!(url.scheme(), "rtsp" | "whep" | "wheps") && url.host().is_some();
    let url = parsed.filter(fits);
    if url.is_none() {
        // Without what stands before an @: it may be a password.
        let shown = text.rsplit_once('@').map_or(text.to_owned(), |(_, rest)| format!("…@{rest}"));
        section.complain(reader, "url", &shown, allowed);
    }
    url
}

/// What a checked address and its credentials make.
pub fn source(
    mut url: Url,
    username: Option<String>,
    password: Option<Secret>,
    token: Option<Secret>,
    transport: Transport,
) -> SourceSpec {
    let inside = split_credentials(&mut url);
    let web = match url.scheme() {
        "whep" => Some("http"),
        "wheps" => Some("https"),
        _ => None,
    };
    if let Some(scheme) = web {
        // `set_scheme` refuses to turn an unknown scheme into a known one.
        let text = format!("{scheme}{}", &url.as_str()[url.scheme().len()..]);
        if let Ok(url) = Url::parse(&text) {
            return SourceSpec::Whep { url, token: token.or(password) };
        }
    }
    let credentials = match username {
        Some(username) => Some((username, password.unwrap_or_default())),
        None => match (inside, password) {
            (Some((username, _)), Some(password)) => Some((username, password)),
            (inside, _) => inside,
        },
    };
    SourceSpec::Rtsp { url, credentials, transport }
}

fn password(
    section: &mut Section<'_, '_>,
    reader: &mut Reader<'_>,
    folder: &Path,
    overrides: &Overrides,
) -> Option<Secret> {
    let direct = section.string(reader, "password").map(Secret::new);
    let from_file = section.string(reader, "password_file").and_then(|file| {
        let path = folder.join(&file);
        match std::fs::read_to_string(&path) {
            Ok(text) => Some(Secret::new(text.trim_end_matches(['\r', '\n']))),
            Err(error) => {
                section.complain(
                    reader,
                    "password_file",
                    &file,
                    &format!("a file that can be read ({error})"),
                );
                None
            }
        }
    });
    let from_variable = section.string(reader, "password_env").and_then(|name| {
        let value = overrides.environment.get(&name).cloned().or_else(|| std::env::var(&name).ok());
        if value.is_none() {
            section.complain(
                reader,
                "password_env",
                &name,
                "the name of an environment variable that is set",
            );
        }
        value.map(Secret::new)
    });
    let given = [&direct, &from_file, &from_variable].into_iter().flatten().count();
    if given > 1 {
        section.complain_about(reader, "only one of password, password_file and password_env may be set");
    }
    direct.or(from_file).or(from_variable)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
