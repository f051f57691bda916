//! HTTPS on the one port: selects the certificate and keeps it current. `local_ca` creates certificates without a
//! domain, `files` are reloaded when they change, `acme` gets them from a public authority. A new certificate applies
//! to new connections; existing ones are unaffected.
//!
//! Start at [`Tls::start`] and [`Tls::accept`].

mod acme;
mod authority;
mod files;
pub mod local_ca;
mod validity;

use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use arc_swap::ArcSwapOption;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{error, info};

use crate::config::{TlsConfig, TlsMode};
pub use authority::Known;
use local_ca::{Name, Pair};

/// The folder for certificates inside the data folder.
const FOLDER: &str = "tls";
/// The key of the local authority, within the data folder.
pub const AUTHORITY_KEY: &str = "tls/ca.key";

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error("{0}: {1}")]
    File(PathBuf, io::Error),
    /// A certificate or key cannot be created or parsed.
    #[error("{0}")]
    Certificate(String),
}

impl TlsError {
    fn parse(error: impl std::fmt::Display) -> Self {
        Self::Certificate(format!("not a certificate: {error}"))
    }
}

impl From<rcgen::Error> for TlsError {
    fn from(error: rcgen::Error) -> Self {
        Self::Certificate(error.to_string())
    }
}

impl From<rustls::Error> for TlsError {
    fn from(error: rustls::Error) -> Self {
        Self::Certificate(error.to_string())
    }
}

/// The certificate for new connections.
#[derive(Debug, Default)]
struct Current(ArcSwapOption<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }
}

/// The local authority, with what other machines need to trust it.
#[derive(Clone, Debug)]
pub struct Authority {
    /// PEM, for download.
    pub cert: String,
    /// Its SHA-256 fingerprint, as browsers show it.
    pub fingerprint: String,
}

/// See the module.
pub struct Tls {
    mode: TlsMode,
    provider: Arc<CryptoProvider>,
    current: Arc<Current>,
    server: ArcSwapOption<ServerConfig>,
    acme: acme::Acme,
    authority: ArcSwapOption<Authority>,
    authority_state: Mutex<authority::State>,
    authority_given: Notify,
    folder: PathBuf,
    names: Vec<Name>,
    files: Option<files::Files>,
}

impl Tls {
    /// Loads or creates the certificate. `public_hosts` are names by which viewers reach this machine; `known` is what was
    /// remembered of the local authority.
    ///
    /// # Errors
    /// There is no certificate.
    pub fn start(
        config: &TlsConfig,
        data: &Path,
        public_hosts: &[String],
        now: SystemTime,
        known: Option<Known>,
    ) -> Result<Arc<Self>, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut names = own_names();
        names.extend(config.names.iter().chain(public_hosts).map(|name| Name::from_text(name)));
        let mut tls = Self {
            mode: config.mode,
            provider,
            current: Arc::default(),
            server: ArcSwapOption::empty(),
            acme: acme::Acme::default(),
            authority: ArcSwapOption::empty(),
            authority_state: Mutex::default(),
            authority_given: Notify::new(),
            folder: data.join(FOLDER),
            names,
            files: None,
        };
        match config.mode {
            TlsMode::Off => {}
            TlsMode::Acme => tls.start_acme(config)?,
            TlsMode::Files => {
                if let (Some(cert), Some(key)) = (&config.cert, &config.key) {
                    tls.files = Some(files::Files::new(cert, key));
                }
                tls.server.store(Some(tls.server_config(tls.current.clone())?));
                tls.read_files(now)?;
            }
            TlsMode::LocalCa => {
                tls.load_authority(now, known, config.new_authority)?;
                tls.server.store(Some(tls.server_config(tls.current.clone())?));
                tls.renew(now, &[])?;
            }
        }
        Ok(Arc::new(tls))
    }

    fn server_config(&self, resolver: Arc<dyn ResolvesServerCert>) -> Result<Arc<ServerConfig>, TlsError> {
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        // WebSockets use a second connection with HTTP/1.1: browsers open one by themselves.
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// Where the certificate comes from.
    pub fn mode(&self) -> TlsMode {
        self.mode
    }

    /// The local authority, in that mode.
    pub fn authority(&self) -> Option<Arc<Authority>> {
        self.authority.load_full()
    }

    /// Performs the TLS handshake on a connection. `None` if it was only an ACME challenge.
    ///
    /// # Errors
    /// The handshake fails, or TLS is off.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<Option<TlsStream<TcpStream>>> {
        let refused = || io::Error::new(io::ErrorKind::Unsupported, "TLS is off");
        let server = self.server.load_full().ok_or_else(refused)?;
        let handshake = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream).await?;
        if let Some(challenge) = self.acme.challenge()
            && rustls_acme::is_tls_alpn_challenge(&handshake.client_hello())
        {
            let mut stream = handshake.into_stream(challenge).await?;
            tokio::io::AsyncWriteExt::shutdown(&mut stream).await?;
            return Ok(None);
        }
        handshake.into_stream(server).await.map(Some)
    }

    /// Renews the certificate if necessary: called periodically, with this machine's addresses.
    pub fn refresh(&self, now: SystemTime, addresses: &[IpAddr]) {
        let result = match self.mode {
            TlsMode::LocalCa => self.renew(now, addresses),
            TlsMode::Files => self.read_files(now),
            TlsMode::Acme | TlsMode::Off => Ok(()),
        };
        if let Err(error) = result {
            error!("cannot renew the certificate, the previous one stays in use: {error}");
        }
    }

    /// The machine's clock has been set: what waits for a time waits for another one now.
    pub fn clock_was_set(&self) {
        if self.mode == TlsMode::Acme
            && let Err(error) = self.restart_acme()
        {
            error!("cannot restart the renewal of the certificate: {error}");
        }
    }

    fn read_files(&self, now: SystemTime) -> Result<(), TlsError> {
        let Some(files) = &self.files else { return Ok(()) };
        let Some(pair) = files.changed()? else { return Ok(()) };
        self.show(&pair).map_err(|error| files.name(&error))?;
        files.taken(&pair);
        info!("certificate loaded");
        if let Some(problem) = validity::problem(&first_certificate(&pair.cert)?, now) {
            error!("{problem}: browsers refuse it");
        }
        Ok(())
    }

    /// Whether the files of a configuration can be used: readable, a certificate with its own key, valid now.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn check(config: &TlsConfig, now: SystemTime) -> Result<(), TlsError> {
        if let (TlsMode::Acme, Some(file)) = (config.mode, &config.directory_ca) {
            acme::roots(file)?;
        }
        let (TlsMode::Files, Some(cert), Some(key)) = (config.mode, &config.cert, &config.key) else {
            return Ok(());
        };
        let files = files::Files::new(cert, key);
        let Some(pair) = files.changed()? else { return Ok(()) };
        let provider = rustls::crypto::ring::default_provider();
        certified(&pair, &provider).map_err(|error| files.name(&error))?;
        match validity::problem(&first_certificate(&pair.cert)?, now) {
            Some(problem) => Err(TlsError::Certificate(format!("{}: {problem}", cert.display()))),
            None => Ok(()),
        }
    }

    fn show(&self, pair: &Pair) -> Result<(), TlsError> {
        self.current.0.store(Some(Arc::new(certified(pair, &self.provider)?)));
        Ok(())
    }
}

/// A certificate with its chain and key. The key must be that of the certificate.
fn certified(pair: &Pair, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(pair.cert.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(TlsError::parse)?;
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes())
        .map_err(|error| TlsError::Certificate(format!("not a key: {error}")))?;
    Ok(CertifiedKey::from_der(chain, key, provider)?)
}

/// The first certificate of a PEM text, in DER.
fn first_certificate(pem: &str) -> Result<CertificateDer<'static>, TlsError> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(TlsError::parse)
}

/// SHA-256 as browsers show it.
fn fingerprint(der: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, der);
    let mut text = String::new();
    for (place, byte) in digest.as_ref().iter().enumerate() {
        let _ = write!(text, "{}{byte:02X}", if place == 0 { "" } else { ":" });
    }
    text
}

/// This machine's name, or a fallback if it is not valid in a certificate.
fn host_name() -> String {
    let name = gethostname::gethostname().to_string_lossy().to_ascii_lowercase();
    if rustls_pki_types::DnsName::try_from(name.as_str()).is_ok() { name } else { "gatehouse".into() }
}

/// This machine's names: as the system has it, and in mDNS.
pub fn host_names() -> Vec<String> {
    let host = host_name();
    let local = (!host.contains('.')).then(|| format!("{host}.local"));
    std::iter::once(host).chain(local).collect()
}

fn own_names() -> Vec<Name> {
    let mut names: Vec<Name> = host_names().into_iter().map(Name::Dns).collect();
    names.extend(["localhost", "127.0.0.1", "::1"].map(Name::from_text));
    names
}
