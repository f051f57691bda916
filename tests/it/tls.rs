//! HTTPS on the one port: each mode with a real client.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::support::{H264, LIMIT, Server, http, offer, server, server_in, with_headers, within};
use gatehouse::config::{Config, Overrides};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

fn trusting(pem: &str) -> reqwest::Client {
    drop(http());
    let root = reqwest::Certificate::from_pem(pem.as_bytes()).unwrap();
    reqwest::Client::builder().timeout(LIMIT).tls_certs_only([root]).build().unwrap()
}

fn https(server: &Server, host: &str, path: &str) -> String {
    format!("https://{host}:{}{path}", server.gatehouse.address().port())
}

async fn connect(server: &Server, pem: &str) -> TlsStream<TcpStream> {
    use rustls_pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls_pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(server.gatehouse.address()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

fn certificate(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

async fn asks(stream: &mut TlsStream<TcpStream>) -> String {
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut buffer = vec![0; 4096];
    let length = stream.read(&mut buffer).await.unwrap();
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

#[tokio::test]
async fn the_local_authority_is_enough_for_whoever_trusts_it() {
    let server = server("").await;
    let pem = server.gatehouse.tls().authority().unwrap().cert.clone();
    let client = trusting(&pem);
    for host in ["localhost", "127.0.0.1"] {
        let response = client.get(https(&server, host, "/health")).send().await.unwrap();
        assert_eq!(response.text().await.unwrap(), "ok\n");
    }
    assert!(http().get(https(&server, "localhost", "/health")).send().await.is_err(), "not trusted");
    let body = serde_json::json!({ "name": "admin", "password": crate::support::PASSWORD }).to_string();
    let login =
        client.post(https(&server, "localhost", "/api/login")).header("content-type", "application/json");
    let cookie = login.body(body).send().await.unwrap().headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.starts_with("__Host-gatehouse-") && cookie.contains("; Secure"), "{cookie}");
    // WHEP with media works on the same port.
    let post = client.post(https(&server, "localhost", "/whep/camera/demo")).bearer_auth(&server.token);
    let response = post.header("content-type", "application/sdp").body(offer(H264)).send().await.unwrap();
    assert_eq!(response.status(), 201);
    let folder = server.data.path().join("data/tls");
    for file in ["ca.crt", "ca.key", "server.crt", "server.key"] {
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &std::fs::metadata(folder.join(file)).unwrap().permissions(),
        );
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[tokio::test]
async fn a_port_of_an_older_system_has_the_same_certificate() {
    let server = server("[compat.webrtc_streamer]\nenabled = true\nlisten = [\"127.0.0.1:0\"]\n").await;
    let client = trusting(&server.gatehouse.tls().authority().unwrap().cert.clone());
    let port = server.gatehouse.compat_addresses()[0].port();
    let url = format!("https://localhost:{port}/api/getVideoDeviceList");
    assert_eq!(client.get(&url).send().await.unwrap().text().await.unwrap(), "[]");
    let plain = with_headers(&[]).get(url.replace("https", "http")).send().await.unwrap();
    assert_eq!((plain.status().as_u16(), plain.headers()["location"].to_str().unwrap()), (308, url.as_str()));
}

#[tokio::test]
async fn the_authority_and_its_certificate_outlive_a_restart() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let first = server_in(folder.clone(), "127.0.0.1:0", "").await;
    let pem = first.gatehouse.tls().authority().unwrap().cert.clone();
    let shown = certificate(&connect(&first, &pem).await);
    drop(first);
    let second = server_in(folder, "127.0.0.1:0", "").await;
    assert_eq!(certificate(&connect(&second, &pem).await), shown);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_certificate_drops_no_connection() {
    let server = server("").await;
    let pem = server.gatehouse.tls().authority().unwrap().cert.clone();
    let mut viewer = server.watch("demo").await;
    viewer.video().await;
    let mut old = connect(&server, &pem).await;
    assert!(asks(&mut old).await.ends_with("ok\n"));
    let now = SystemTime::now();
    server.gatehouse.tls().refresh(now, &[]);
    assert_eq!(certificate(&connect(&server, &pem).await), certificate(&old), "nothing to renew yet");
    // A new address: the certificate is renewed.
    server.gatehouse.tls().refresh(now, &[[192, 168, 77, 7].into()]);
    let renewed = connect(&server, &pem).await;
    assert_ne!(certificate(&renewed), certificate(&old));
    // Near expiry: renewed again.
    server.gatehouse.tls().refresh(now + Duration::from_secs(380 * 86_400), &[]);
    let stored = std::fs::read_to_string(server.data.path().join("data/tls/server.crt")).unwrap();
    assert!(stored.contains("BEGIN CERTIFICATE"));
    assert!(asks(&mut old).await.ends_with("ok\n"), "the old connection still works");
    viewer.video().await;
}

#[tokio::test]
async fn other_machines_are_shown_how_to_trust_and_sent_to_https() {
    let server = server("").await;
    let other = with_headers(&[("host", "192.168.1.5:8443")]);
    let page = other.get(server.url("/")).send().await.unwrap();
    assert_eq!(page.status(), 200);
    assert!(page.text().await.unwrap().contains("onboarding-page.js"));
    for (path, kind) in
        [("/ca.crt", "application/x-x509-ca-cert"), ("/ca.mobileconfig", "application/x-apple-aspen-config")]
    {
        let response = other.get(server.url(path)).send().await.unwrap();
        assert_eq!(response.headers()["content-type"], kind);
        let text = response.text().await.unwrap();
        let body: String = server
            .gatehouse
            .tls()
            .authority()
            .unwrap()
            .cert
            .lines()
            .filter(|line| !line.contains("--"))
            .collect();
        assert!(text.replace('\n', "").contains(&body), "{path} has the certificate");
    }
    let facts: serde_json::Value = serde_json::from_str(
        &other.get(server.url("/api/onboarding")).send().await.unwrap().text().await.unwrap(),
    )
    .unwrap();
    assert_eq!(facts["fingerprint"], server.gatehouse.tls().authority().unwrap().fingerprint.as_str());
    for (method, path) in [
        ("GET", "/api/cameras?x=1"),
        ("POST", "/api/login"),
        ("GET", "/login"),
        ("POST", "/"),
        ("GET", "/js/wall-page.js"),
    ] {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let response = other.request(method, server.url(path)).send().await.unwrap();
        assert_eq!(response.status(), 308, "{path}");
        assert_eq!(response.headers()["location"], format!("https://192.168.1.5:8443{path}").as_str());
    }
    // A request that a local proxy forwarded without TLS is redirected, too.
    let forwarded = with_headers(&[("x-forwarded-for", "203.0.113.9")]);
    assert_eq!(forwarded.get(server.url("/login")).send().await.unwrap().status(), 308);
    let odd = with_headers(&[("host", "a/b")]);
    assert_eq!(odd.get(server.url("/")).send().await.unwrap().status(), 400);
}

fn self_signed() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

#[tokio::test]
async fn files_are_read_again_when_they_change() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let write = |(cert, key): &(String, String)| {
        std::fs::write(folder.path().join("c.pem"), cert).unwrap();
        std::fs::write(folder.path().join("k.pem"), key).unwrap();
    };
    let (first, second) = (self_signed(), self_signed());
    write(&first);
    let tls = "[tls]\nmode = \"files\"\ncert = \"c.pem\"\nkey = \"k.pem\"\n";
    let server = server_in(folder.clone(), "127.0.0.1:0", tls).await;
    assert_eq!(
        trusting(&first.0).get(https(&server, "localhost", "/health")).send().await.unwrap().status(),
        200
    );
    // The certificate is new, the key is not yet: the old pair stays in use.
    std::fs::write(folder.path().join("c.pem"), &second.0).unwrap();
    server.gatehouse.tls().refresh(SystemTime::now(), &[]);
    assert!(trusting(&first.0).get(https(&server, "localhost", "/health")).send().await.is_ok());
    write(&second);
    server.gatehouse.tls().refresh(SystemTime::now(), &[]);
    assert!(trusting(&second.0).get(https(&server, "localhost", "/health")).send().await.is_ok());
    assert!(trusting(&first.0).get(https(&server, "localhost", "/health")).send().await.is_err());
    let other = with_headers(&[("host", "cam.example")]);
    assert_eq!(other.get(server.url("/")).send().await.unwrap().status(), 308, "there is nothing to install");
}

#[tokio::test]
async fn missing_files_are_reported_at_start() {
    let folder = tempfile::tempdir().unwrap();
    let text =
        "[tls]\nmode = \"files\"\ncert = \"c.pem\"\nkey = \"k.pem\"\n[server]\nlisten = \"127.0.0.1:0\"\n";
    let mut config = Config::parse(text, "test", folder.path(), &Overrides::default()).unwrap();
    config.data = folder.path().join("data");
    let error = Box::pin(gatehouse::Gatehouse::start(&config)).await.err().unwrap().to_string();
    assert!(error.contains("c.pem"), "{error}");
}

#[tokio::test]
async fn behind_a_proxy() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let more = "trusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]\n[tls]\nmode = \"off\"\n";
    let server = server_in(folder, "127.0.0.1:0", more).await;
    let proxy = with_headers(&[
        ("host", "cam.example"),
        ("origin", "https://cam.example"),
        ("x-forwarded-for", "198.51.100.1 ÿ, 203.0.113.9, 10.1.1.1"),
        ("x-forwarded-proto", "https"),
    ]);
    let body = serde_json::json!({ "name": "admin", "password": crate::support::PASSWORD }).to_string();
    let login = proxy.post(server.url("/api/login")).header("content-type", "application/json").body(body);
    let response = login.send().await.unwrap();
    assert_eq!(response.status(), 200, "no redirect: the proxy handles TLS");
    assert!(response.headers()["set-cookie"].to_str().unwrap().contains("; Secure"));
    let log = server.get(&server.http(), "/api/admin/log?action=login").await;
    assert_eq!(log["entries"][0]["address"], "203.0.113.9", "not the forged header");
    let tls = TcpStream::connect(server.gatehouse.address()).await.unwrap();
    let mut tls = tls;
    tls.write_all(&[0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0]).await.unwrap();
    assert!(matches!(tls.read(&mut [0; 16]).await, Ok(0) | Err(_)), "TLS is refused");
}

#[test]
fn off_is_for_this_machine_unless_said_otherwise() {
    let parse = |text: &str| Config::parse(text, "g.toml", std::path::Path::new("."), &Overrides::default());
    let open = "[server]\nlisten = \"0.0.0.0:8443\"\n[tls]\nmode = \"off\"\n";
    assert!(parse(open).unwrap_err().to_string().contains("off_anywhere"));
    assert!(parse(&format!("{open}off_anywhere = true\n")).is_ok());
    assert!(parse("[tls]\nmode = \"files\"\n").unwrap_err().to_string().contains("cert and key"));
    assert!(parse("[tls]\nmode = \"acme\"\n").unwrap_err().to_string().contains("domains"));
    assert!(parse("[tls]\nmode = \"none\"\n").is_err());
}

/// As HAProxy checks a server by default.
#[tokio::test]
async fn health_needs_no_host() {
    let server = server("").await;
    for (path, status) in [("/health", "200"), ("/ready", "200"), ("/", "400")] {
        let mut stream = TcpStream::connect(server.gatehouse.address()).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        within("the answer", stream.read_to_string(&mut answer)).await.unwrap();
        assert_eq!(answer.split(' ').nth(1), Some(status), "{path}: {answer}");
    }
}
