//! RTSP over TLS (`rtsps://`): connects, and decides whether the camera's certificate is accepted. Most cameras have one
//! that they made themselves, so it can be pinned. Start at [`connect`].

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::streams::source::{SourceError, TlsTrust};

/// Performs the handshake with a camera of this name or address.
///
/// # Errors
/// The certificate is not accepted, or the camera does not speak TLS.
pub async fn connect(
    stream: TcpStream,
    host: &str,
    trust: TlsTrust,
) -> Result<TlsStream<TcpStream>, SourceError> {
    let failed = |error: &dyn std::fmt::Display| SourceError::soon("camera_tls", format!("TLS: {error}"));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let system = rustls_platform_verifier::Verifier::new(provider.clone()).map_err(|error| failed(&error))?;
    let check = Arc::new(Check { trust, system, provider: provider.clone(), seen: Mutex::default() });
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&error))?
        .dangerous()
        .with_custom_certificate_verifier(check.clone())
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).map_err(|error| failed(&error))?;
    match TlsConnector::from(Arc::new(config)).connect(name, stream).await {
        Ok(stream) => Ok(stream),
        Err(error) => {
            let seen = check.seen.lock().unwrap_or_else(PoisonError::into_inner).take();
            Err(match seen {
                Some(fingerprint) => SourceError::slowly(
                    "camera_tls",
                    format!(
                        "the camera's certificate is not trusted ({error}); if it is the right camera, set tls_fingerprint = \
                         \"{fingerprint}\""
                    ),
                ),
                None => failed(&error),
            })
        }
    }
}

/// The SHA-256 of the certificate that a camera has shown.
pub fn fingerprint_of(stream: &TlsStream<TcpStream>) -> Option<String> {
    stream.get_ref().1.peer_certificates()?.first().map(|certificate| fingerprint(certificate))
}

fn fingerprint(certificate: &[u8]) -> String {
    let mut text = String::new();
    for (place, byte) in ring::digest::digest(&ring::digest::SHA256, certificate).as_ref().iter().enumerate()
    {
        let _ = write!(text, "{}{byte:02X}", if place == 0 { "" } else { ":" });
    }
    text
}

/// Checks a certificate as configured.
#[derive(Debug)]
struct Check {
    trust: TlsTrust,
    system: rustls_platform_verifier::Verifier,
    provider: Arc<CryptoProvider>,
    /// The fingerprint of a certificate that was not accepted.
    seen: Mutex<Option<String>>,
}

impl ServerCertVerifier for Check {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let digest = ring::digest::digest(&ring::digest::SHA256, end_entity);
        let result = match self.trust {
            TlsTrust::Anything => Ok(ServerCertVerified::assertion()),
            TlsTrust::Pinned(expected) if digest.as_ref() == expected => Ok(ServerCertVerified::assertion()),
            TlsTrust::Pinned(_) => {
                Err(rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
            }
            TlsTrust::System => {
                self.system.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            }
        };
        if result.is_err() {
            let text = fingerprint(end_entity);
            *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
        }
        result
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
