//! Certificates by ACME, from a small authority in this file, which validates our port as a real one does
//! (TLS-ALPN-01, RFC 8737) and then signs the requested certificate. It does not check the signatures of requests.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use rcgen::{BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{LIMIT, http, server_in, until};

const DOMAIN: &str = "cameras.example.com";
/// RFC 8737 §3: the certificate extension that carries the challenge.
const ACME_IDENTIFIER: &str = "1.3.6.1.5.5.7.1.31";

struct Authority {
    base: String,
    /// The address that the domain resolves to: our server, once it is running.
    target: Mutex<Option<SocketAddr>>,
    status: Mutex<&'static str>,
    issued: Mutex<String>,
    ca: (String, String),
}

fn answer(authority: &Authority, body: impl IntoResponse) -> Response {
    let headers = [("replay-nonce", "n".to_owned()), ("location", format!("{}/thing", authority.base))];
    (headers, body).into_response()
}

fn order(authority: &Authority) -> Value {
    let status = *authority.status.lock().unwrap();
    let base = &authority.base;
    json!({ "status": status, "authorizations": [format!("{base}/auth")], "finalize": format!("{base}/finalize"),
            "certificate": format!("{base}/certificate") })
}

async fn ask(State(authority): State<Arc<Authority>>, Path(what): Path<String>, body: String) -> Response {
    let base = &authority.base;
    match what.as_str() {
        "account" => answer(&authority, "{}"),
        "order" | "thing" => answer(&authority, Json(order(&authority))),
        "auth" => {
            let validated = *authority.status.lock().unwrap() != "pending";
            let challenge =
                json!({ "type": "tls-alpn-01", "url": format!("{base}/challenge"), "token": "t" });
            answer(
                &authority,
                Json(json!({ "status": if validated { "valid" } else { "pending" },
                    "identifier": { "type": "dns", "value": DOMAIN }, "challenges": [challenge] })),
            )
        }
        "challenge" => {
            let target = until("our server is running", || *authority.target.lock().unwrap()).await;
            assert!(knock(target).await, "our port answers the challenge");
            *authority.status.lock().unwrap() = "ready";
            answer(&authority, "{}")
        }
        "finalize" => {
            let request: Value = serde_json::from_str(&body).unwrap();
            let payload = URL_SAFE_NO_PAD.decode(request["payload"].as_str().unwrap()).unwrap();
            let payload: Value = serde_json::from_slice(&payload).unwrap();
            let der = URL_SAFE_NO_PAD.decode(payload["csr"].as_str().unwrap()).unwrap();
            let request = CertificateSigningRequestParams::from_der(&der.into()).unwrap();
            let (cert, key) = &authority.ca;
            let issuer = Issuer::from_ca_cert_pem(cert, KeyPair::from_pem(key).unwrap()).unwrap();
            *authority.issued.lock().unwrap() = request.signed_by(&issuer).unwrap().pem();
            *authority.status.lock().unwrap() = "valid";
            answer(&authority, Json(order(&authority)))
        }
        "certificate" => answer(&authority, authority.issued.lock().unwrap().clone()),
        other => panic!("unexpected request: {other}"),
    }
}

/// Accepts any certificate: the test looks only at its content.
#[derive(Debug)]
struct Anything(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Accepts any certificate.
pub fn accepting_anything() -> rustls::ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anything(provider)))
        .with_no_client_auth()
}

/// Validates as an authority does: TLS with the protocol `acme-tls/1`, and the extension in the certificate.
async fn knock(target: SocketAddr) -> bool {
    let mut config = accepting_anything();
    config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
    let stream = TcpStream::connect(target).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = connector.connect(ServerName::try_from(DOMAIN).unwrap(), stream).await.unwrap();
    let certificate = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    let (_, certificate) = x509_parser::parse_x509_certificate(&certificate).unwrap();
    certificate.extensions().iter().any(|extension| extension.oid.to_id_string() == ACME_IDENTIFIER)
}

fn certificate_authority() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// Starts the authority over HTTPS; returns it and the PEM of its own certificate.
async fn start() -> (Arc<Authority>, String) {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(own.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let authority = Arc::new(Authority {
        base: base.clone(),
        target: Mutex::default(),
        status: Mutex::new("pending"),
        issued: Mutex::default(),
        ca: certificate_authority(),
    });
    let directory = json!({ "newNonce": format!("{base}/nonce"), "newAccount": format!("{base}/account"),
        "newOrder": format!("{base}/order") });
    let nonce = || async {
        let mut headers = HeaderMap::new();
        headers.insert("replay-nonce", "n".parse().unwrap());
        headers
    };
    let router = Router::new()
        .route("/directory", get(move || async move { Json(directory) }))
        .route("/nonce", get(nonce))
        .route("/{what}", post(ask))
        .with_state(authority.clone());
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, router) = (acceptor.clone(), router.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = TowerToHyperService::new(router);
                let serving = hyper::server::conn::http1::Builder::new();
                let _ = serving.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    (authority, own.cert.pem())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_public_authority_gives_a_certificate_and_it_is_kept() {
    let (authority, trusted) = start().await;
    let folder = Arc::new(tempfile::tempdir().unwrap());
    std::fs::write(folder.path().join("root.pem"), trusted).unwrap();
    let tls = format!(
        "[tls]\nmode = \"acme\"\ndomains = [\"{DOMAIN}\"]\nemail = \"me@example.com\"\n\
         directory = \"{}/directory\"\ndirectory_ca = \"root.pem\"\n",
        authority.base
    );
    let server = server_in(folder.clone(), "127.0.0.1:0", &tls).await;
    let address = server.gatehouse.address();
    *authority.target.lock().unwrap() = Some(address);
    answers(&authority, address).await;
    drop(server);
    // The certificate is stored: the next start needs no authority.
    *authority.status.lock().unwrap() = "invalid";
    let again = server_in(folder, "127.0.0.1:0", &tls).await;
    answers(&authority, again.gatehouse.address()).await;
    // After a step of the clock the time of the renewal is computed again; the certificate is still there.
    again.gatehouse.tls().clock_was_set();
    answers(&authority, again.gatehouse.address()).await;
}

/// Waits until the port presents a certificate of the authority.
async fn answers(authority: &Authority, address: SocketAddr) {
    // Installs the default crypto provider for clients.
    drop(http());
    let root = reqwest::Certificate::from_pem(authority.ca.0.as_bytes()).unwrap();
    let client = reqwest::Client::builder().timeout(LIMIT).resolve(DOMAIN, address).tls_certs_only([root]);
    let (client, url) = (client.build().unwrap(), format!("https://{DOMAIN}:{}/health", address.port()));
    crate::support::within("the certificate is there", async {
        while client.get(&url).send().await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    })
    .await;
}
