//! Certificates from an ACME server (RFC 8555), validated with TLS-ALPN-01 (RFC 8737) on the one port, which the ACME
//! server must be able to reach as 443.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;
use futures::StreamExt;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_acme::AcmeConfig;
use rustls_acme::caches::DirCache;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info};

use super::{Tls, TlsError};
use crate::config::TlsConfig;

/// The running renewal.
#[derive(Default)]
pub(super) struct Acme {
    config: Mutex<Option<TlsConfig>>,
    challenge: ArcSwapOption<ServerConfig>,
    task: Mutex<Option<AbortOnDropHandle<()>>>,
}

impl Acme {
    /// For handshakes of the ACME server.
    pub(super) fn challenge(&self) -> Option<Arc<ServerConfig>> {
        self.challenge.load_full()
    }
}

/// The certificates by which the ACME server itself is recognised.
pub(super) fn roots(file: &Path) -> Result<RootCertStore, TlsError> {
    let fail = |error: &dyn std::fmt::Display| TlsError::Certificate(format!("{}: {error}", file.display()));
    let mut roots = RootCertStore::empty();
    for cert in CertificateDer::pem_file_iter(file).map_err(|error| fail(&error))? {
        roots.add(cert.map_err(|error| fail(&error))?)?;
    }
    if roots.is_empty() { Err(fail(&"no certificate")) } else { Ok(roots) }
}

impl Tls {
    /// Begins anew: the library computes once how long to wait for the renewal.
    pub(super) fn restart_acme(&self) -> Result<(), TlsError> {
        let config = self.acme.config.lock().unwrap_or_else(PoisonError::into_inner).clone();
        config.map_or(Ok(()), |config| self.start_acme(&config))
    }

    /// Orders a certificate, and keeps it renewed in the background.
    pub(super) fn start_acme(&self, config: &TlsConfig) -> Result<(), TlsError> {
        let acme = match &config.directory_ca {
            None => AcmeConfig::new_with_provider(config.domains.clone(), self.provider.clone()),
            Some(file) => {
                let roots = roots(file)?;
                let client = ClientConfig::builder_with_provider(self.provider.clone())
                    .with_safe_default_protocol_versions()?
                    .with_root_certificates(roots)
                    .with_no_client_auth();
                AcmeConfig::new_with_client_config(config.domains.clone(), Arc::new(client))
            }
        };
        // The library creates its files with the default mode, so the folder must be private.
        let cache = self.folder.join("acme");
        super::files::private_folder(&self.folder)?;
        super::files::private_folder(&cache)?;
        let acme = acme
            .contact(config.email.iter().map(|email| format!("mailto:{email}")))
            .cache(DirCache::new(cache));
        let acme = match &config.directory {
            Some(directory) => acme.directory(directory),
            None => acme.directory_lets_encrypt(true),
        };
        let mut state = acme.state();
        self.server.store(Some(self.server_config(state.resolver())?));
        let challenge = state.challenge_rustls_config_with_provider(self.provider.clone());
        self.acme.challenge.store(Some(challenge));
        *self.acme.config.lock().unwrap_or_else(PoisonError::into_inner) = Some(config.clone());
        let task = tokio::spawn(async move {
            while let Some(event) = state.next().await {
                match event {
                    Ok(event) => info!("certificate: {event:?}"),
                    Err(error) => error!("cannot get a certificate, will be retried: {error}"),
                }
            }
        });
        *self.acme.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(AbortOnDropHandle::new(task));
        Ok(())
    }
}
