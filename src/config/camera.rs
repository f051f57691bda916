//! `[[camera]]`: a camera's source, and who may watch it. Running the camera is up to `streams`.

use std::time::Duration;

use url::Url;

use super::environment::Expansion;
use super::read::{Reader, Section};
use super::tls;
use crate::accounts::permissions::Subject;
use crate::ids::is_name;
use crate::names::StreamName;
use crate::secret::{ENCODE_PASSWORD, has_raw_password, split_credentials};
use crate::streams::source::{Secret, SourceSpec, TlsTrust, Transport};
use crate::streams::spec::StreamSpec;

/// Most cameras in one file.
const MAX_CAMERAS: usize = 10_000;

/// `[[camera]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CameraConfig {
    /// Its name in URLs.
    pub id: String,
    /// Its name on the page.
    pub name: String,
    /// Whether it is in use at all.
    pub enabled: bool,
    /// Whether it can be watched without a login.
    pub public: bool,
    /// Who may watch it; if not set, the setting on the page applies.
    pub allow: Option<Vec<Subject>>,
    /// Who may publish it, if its source is `whip:`; dispatchers if not set.
    pub publish: Option<Vec<Subject>>,
    /// Source and settings of its stream.
    pub spec: StreamSpec,
}

impl CameraConfig {
    /// Its stream.
    pub fn stream_id(&self) -> Option<StreamName> {
        StreamName::camera(&self.id)
    }
}

pub(super) fn read(
    root: &mut Section<'_, '_>,
    reader: &mut Reader<'_>,
    expansion: &mut Expansion<'_>,
) -> Vec<CameraConfig> {
    let mut cameras: Vec<CameraConfig> = Vec::new();
    for mut section in root.sections(reader, "camera").into_iter().take(MAX_CAMERAS) {
        let Some(camera) = camera(&mut section, reader, expansion) else { continue };
        if cameras.iter().any(|other| other.id == camera.id) {
            section.complain(reader, "id", &camera.id, "an id that no earlier camera has");
            continue;
        }
        cameras.push(camera);
    }
    cameras
}

fn camera(
    section: &mut Section<'_, '_>,
    reader: &mut Reader<'_>,
    expansion: &mut Expansion<'_>,
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
    let sub_url = section.string(reader, "sub_url");
    let username = section.string(reader, "username");
    let password = password(section, reader, expansion);
    let token = section.string(reader, "token").map(Secret::new);
    let transport = section.one_of(reader, "transport", &["auto", "tcp", "udp"]);
    let trust = tls_trust(section, reader);
    let follow = section.list(reader, "follow", tls::HOSTS, tls::host).unwrap_or_default();
    let on_demand = section.boolean(reader, "on_demand").unwrap_or(true);
    let idle_timeout = section.duration(reader, "idle_timeout", Duration::ZERO..=Duration::from_secs(86_400));
    let gop_cache = section.integer(reader, "gop_cache_kib", 0..=65_536);
    let enabled = section.boolean(reader, "enabled").unwrap_or(true);
    let public = section.boolean(reader, "public").unwrap_or(false);
    let allow = section.list(reader, "allow", Subject::ALLOWED, |text| text.parse().ok());
    let publish = section.list(reader, "publish", Subject::ALLOWED, |text| text.parse().ok());
    let transport = match transport {
        Some(1) => Transport::Tcp,
        Some(2) => Transport::Udp,
        _ => Transport::Auto,
    };
    let url = url.and_then(|url| source_url(section, reader, "url", &url));
    let sub_url = sub_url.and_then(|sub| sub_url_of(section, reader, url.as_ref()?, &sub));
    section.finish(reader);
    let (id, url) = (id.filter(|id| is_name(id))?, url?);
    let mut source = source(url, username, password, token, transport);
    if let SourceSpec::Rtsp { tls, follow: hosts, .. } = &mut source {
        (*tls, *hosts) = (trust, follow);
    }
    let sub = sub_url.and_then(|url| sub_source(&source, url));
    let mut spec = StreamSpec::new(source, on_demand);
    spec.idle_timeout = idle_timeout.unwrap_or(spec.idle_timeout);
    spec.sub = sub.map(Box::new);
    spec.gop_cache = gop_cache.map_or(spec.gop_cache, |kib| kib as usize * 1024);
    Some(CameraConfig {
        name: name.filter(|name| !name.trim().is_empty()).unwrap_or_else(|| id.clone()),
        id,
        enabled,
        public,
        allow,
        publish,
        spec,
    })
}

fn tls_trust(section: &mut Section<'_, '_>, reader: &mut Reader<'_>) -> TlsTrust {
    let allowed = "a SHA-256 of 64 hexadecimal digits, as `gatehouse probe` prints it";
    let pinned = section.parsed_with(reader, "tls_fingerprint", allowed, TlsTrust::pinned);
    match (pinned, section.boolean(reader, "tls_verify")) {
        (Some(pinned), _) => pinned,
        (None, Some(false)) => TlsTrust::Anything,
        (None, _) => TlsTrust::System,
    }
}

/// The address of the sub stream: the main one must be a camera, too.
fn sub_url_of(section: &Section<'_, '_>, reader: &mut Reader<'_>, main: &Url, text: &str) -> Option<Url> {
    let url = source_url(section, reader, "sub_url", text)?;
    if is_camera(main) && is_camera(&url) {
        return Some(url);
    }
    section.complain(reader, "sub_url", url.scheme(), "rtsp:// or rtsps://, like url");
    None
}

fn source_url(
    section: &Section<'_, '_>,
    reader: &mut Reader<'_>,
    key: &'static str,
    text: &str,
) -> Option<Url> {
    let allowed = "rtsp://host[:port]/path, rtsps:// (with TLS), whep://host/path (over http), wheps://host/path (over https), or whip: for a camera that is published to this server";
    if has_raw_password(text) {
        // Nothing of it is shown: any part may be the password.
        section.complain(reader, key, "…", ENCODE_PASSWORD);
        return None;
    }
    let url = Url::parse(text).ok().filter(is_source);
    if url.is_none() {
        // Omit everything before an @: it may contain a password.
        let shown = text.rsplit_once('@').map_or(text.to_owned(), |(_, rest)| format!("…@{rest}"));
        section.complain(reader, key, &shown, allowed);
    }
    url
}

/// Whether a URL can be a camera's source.
pub fn is_source(url: &Url) -> bool {
    let fetched = matches!(url.scheme(), "rtsp" | "rtsps" | "whep" | "wheps") && url.host().is_some();
    fetched || url.as_str() == "whip:"
}

fn is_camera(url: &Url) -> bool {
    matches!(url.scheme(), "rtsp" | "rtsps") && url.host().is_some()
}

/// Whether a URL can be the sub stream of a camera whose password it is given: in the same place.
pub fn is_sub_of(main: &Url, sub: &Url) -> bool {
    is_camera(main) && is_camera(sub) && is_same_place(main, sub)
}

fn is_same_place(main: &Url, sub: &Url) -> bool {
    let place =
        |url: &Url| (url.scheme().to_owned(), url.host_str().map(str::to_ascii_lowercase), url.port());
    place(main) == place(sub)
}

/// The source of a camera's sub stream: reached like the main one, and logged in to with the same password unless it is
/// somewhere else or has its own.
pub fn sub_source(main: &SourceSpec, mut sub: Url) -> Option<SourceSpec> {
    let SourceSpec::Rtsp { url, credentials, transport, tls, follow } = main else { return None };
    let inside = split_credentials(&mut sub);
    let shared = credentials.clone().filter(|_| is_same_place(url, &sub));
    let (transport, tls, follow) = (*transport, *tls, follow.clone());
    Some(SourceSpec::Rtsp { url: sub, credentials: inside.or(shared), transport, tls, follow })
}

/// The source for a validated URL and its credentials.
pub fn source(
    mut url: Url,
    username: Option<String>,
    password: Option<Secret>,
    token: Option<Secret>,
    transport: Transport,
) -> SourceSpec {
    let inside = split_credentials(&mut url);
    if url.scheme() == "whip" {
        return SourceSpec::Published;
    }
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
    SourceSpec::Rtsp { url, credentials, transport, tls: TlsTrust::System, follow: Vec::new() }
}

fn password(
    section: &mut Section<'_, '_>,
    reader: &mut Reader<'_>,
    expansion: &mut Expansion<'_>,
) -> Option<Secret> {
    let direct = section.string(reader, "password").map(Secret::new);
    let from_file = section.string(reader, "password_file").and_then(|file| {
        match expansion.expand(&format!("file:{file}")) {
            Ok(text) => text.map(Secret::new),
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
        let value = (expansion.variable)(&name);
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
