//! `[tls]`: where the certificate comes from. The certificates themselves are handled by [`crate::tls`].

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::read::{Reader, Section};

/// Where the certificate comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TlsMode {
    /// Our own certificate authority, created on first start.
    #[default]
    LocalCa,
    /// Files that are renewed by another program.
    Files,
    /// Let's Encrypt, or another ACME server.
    Acme,
    /// None: a reverse proxy terminates TLS.
    Off,
}

impl TlsMode {
    const WORDS: [&'static str; 4] = ["local-ca", "files", "acme", "off"];
    /// The accepted values, for error messages.
    pub const ALLOWED: &'static str = "\"local-ca\", \"files\", \"acme\" or \"off\"";

    /// Parses the configuration value.
    pub fn parse(text: &str) -> Option<Self> {
        let place = Self::WORDS.iter().position(|word| *word == text)?;
        [Self::LocalCa, Self::Files, Self::Acme, Self::Off].get(place).copied()
    }
}

/// `[tls]`, checked.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TlsConfig {
    /// Make a new local authority, whether or not there is one. Only by a flag.
    pub new_authority: bool,
    /// Where the certificate comes from.
    pub mode: TlsMode,
    /// Names in addition to the machine's own, for the local authority.
    pub names: Vec<String>,
    /// PEM files.
    pub cert: Option<PathBuf>,
    /// PEM files.
    pub key: Option<PathBuf>,
    /// For ACME.
    pub domains: Vec<String>,
    /// For ACME.
    pub email: Option<String>,
    /// The ACME directory URL; Let's Encrypt if not set.
    pub directory: Option<String>,
    /// A PEM file with the root certificate of the ACME server itself, if it is not a public one.
    pub directory_ca: Option<PathBuf>,
    /// Allows listening on non-loopback addresses without TLS.
    pub off_anywhere: bool,
}

/// Reads the section.
pub fn read(section: &mut Section<'_, '_>, reader: &mut Reader<'_>, folder: &Path) -> TlsConfig {
    let mode = section.parsed_with(reader, "mode", TlsMode::ALLOWED, TlsMode::parse).unwrap_or_default();
    let path = |text: Option<String>| text.filter(|text| !text.is_empty()).map(|text| folder.join(text));
    let text = |text: Option<String>| text.filter(|text| !text.is_empty());
    let config = TlsConfig {
        new_authority: false,
        mode,
        names: section.list(reader, "names", HOSTS, host).unwrap_or_default(),
        cert: path(section.string(reader, "cert")),
        key: path(section.string(reader, "key")),
        domains: section.list(reader, "domains", HOSTS, host).unwrap_or_default(),
        email: text(section.string(reader, "email")),
        directory: text(section.string(reader, "directory")),
        directory_ca: path(section.string(reader, "directory_ca")),
        off_anywhere: section.boolean(reader, "off_anywhere").unwrap_or(false),
    };
    section.finish(reader);
    config
}

/// What [`host`] accepts, for error messages.
pub const HOSTS: &str = "names or addresses without a scheme and a port";

/// A DNS name or an address, in lower case.
pub fn host(text: &str) -> Option<String> {
    is_host(text).then(|| text.to_ascii_lowercase())
}

/// Whether a text is a DNS name or an address.
pub fn is_host(text: &str) -> bool {
    text.parse::<std::net::IpAddr>().is_ok() || rustls_pki_types::DnsName::try_from(text).is_ok()
}

impl TlsConfig {
    /// A required key that is missing, or an insecure combination.
    pub fn problem(&self, listen: SocketAddr) -> Option<String> {
        match self.mode {
            TlsMode::Files if self.cert.is_none() || self.key.is_none() => {
                Some("mode = \"files\" requires cert and key".into())
            }
            TlsMode::Acme if self.domains.is_empty() => Some("mode = \"acme\" requires domains".into()),
            TlsMode::Off if !listen.ip().is_loopback() && !self.off_anywhere => Some(format!(
                "mode = \"off\" allows interception of passwords and video: listen on 127.0.0.1 for a reverse proxy on \
                 this machine, or set off_anywhere = true (server.listen is {listen})"
            )),
            _ => None,
        }
    }
}
