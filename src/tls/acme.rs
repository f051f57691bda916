//! Certificates from an ACME server (RFC 8555), validated with TLS-ALPN-01 (RFC 8737) on the one port, which the ACME
//! server must be able to reach as 443.

use std::sync::Arc;

use futures::StreamExt;
use rustls::{ClientConfig, RootCertStore};
use rustls_acme::AcmeConfig;
use rustls_acme::caches::DirCache;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tracing::{error, info};

use super::{Tls, TlsError};
use crate::config::TlsConfig;

impl Tls {
    /// Orders a certificate, and keeps it renewed in the background.
    pub(super) fn start_acme(&mut self, config: &TlsConfig) -> Result<(), TlsError> {
        let acme = match &config.directory_ca {
            None => AcmeConfig::new_with_provider(config.domains.clone(), self.provider.clone()),
            Some(file) => {
                let fail = |error: &dyn std::fmt::Display| {
                    TlsError::Certificate(format!("{}: {error}", file.display()))
                };
                let mut roots = RootCertStore::empty();
                for cert in CertificateDer::pem_file_iter(file).map_err(|error| fail(&error))? {
                    roots.add(cert.map_err(|error| fail(&error))?)?;
                }
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
        self.server = Some(self.server_config(state.resolver())?);
        self.challenge = Some(state.challenge_rustls_config_with_provider(self.provider.clone()));
        tokio::spawn(async move {
            while let Some(event) = state.next().await {
                match event {
                    Ok(event) => info!("certificate: {event:?}"),
                    Err(error) => error!("cannot get a certificate, will be retried: {error}"),
                }
            }
        });
        Ok(())
    }
}
