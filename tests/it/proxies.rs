//! Behind a reverse proxy: sub-paths, the PROXY protocol, and what is told if the proxy is set up wrong. The tests with
//! real proxies and a browser are in `tests/browser/proxies.test.js`.

use std::sync::Arc;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{PASSWORD, Server, server_in, with_headers, within};

const TRUSTED: &str = "trusted_proxies = [\"127.0.0.1\"]\n";
const OFF: &str = "[tls]\nmode = \"off\"\n";

async fn behind(more: &str) -> Server {
    server_in(Arc::new(tempfile::tempdir().unwrap()), "127.0.0.1:0", more).await
}

fn login() -> String {
    json!({ "name": "admin", "password": PASSWORD }).to_string()
}

/// Sends a login; returns status, error code and cookie.
async fn log_in(server: &Server, path: &str, headers: &[(&'static str, &str)]) -> (u16, String, String) {
    let request = with_headers(headers).post(server.url(path)).body(login());
    let response = request.header("content-type", "application/json").send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let cookie = headers.get("set-cookie").map(|value| value.to_str().unwrap().to_owned());
    let body: serde_json::Value = serde_json::from_str(&response.text().await.unwrap()).unwrap_or_default();
    (status, body["error"]["code"].as_str().unwrap_or_default().to_owned(), cookie.unwrap_or_default())
}

#[tokio::test]
async fn a_sub_path_that_the_proxy_keeps() {
    let server = behind(&format!("base_path = \"/cams/\"\n{TRUSTED}{OFF}")).await;
    let client = with_headers(&[("host", "localhost")]);
    let page = client.get(server.url("/cams/")).send().await.unwrap();
    assert_eq!(page.status(), 200);
    let page = page.text().await.unwrap();
    assert!(!page.contains("=\"/"), "relative addresses only: {page}");
    let slash = client.get(server.url("/cams")).send().await.unwrap();
    assert_eq!((slash.status().as_u16(), &slash.headers()["location"]), (308, &"/cams/".parse().unwrap()));
    let (status, _, cookie) = log_in(&server, "/cams/api/login", &[("host", "localhost")]).await;
    assert_eq!(status, 200);
    assert!(cookie.contains("; Path=/cams/"), "{cookie}");
    assert_eq!(client.get(server.url("/api/me")).send().await.unwrap().status(), 200, "and without it");
    let embed = client.get(server.url("/cams/embed/camera/demo")).send().await.unwrap().text().await.unwrap();
    assert!(embed.contains("src=\"../../v/"), "{embed}");
}

#[tokio::test]
async fn a_sub_path_that_a_trusted_proxy_names() {
    let server = behind(&format!("{TRUSTED}{OFF}")).await;
    let headers = [
        ("host", "cam.example"),
        ("origin", "https://cam.example"),
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-prefix", "/cams"),
    ];
    let (status, _, cookie) = log_in(&server, "/api/login", &headers).await;
    assert_eq!(status, 200);
    assert!(cookie.starts_with("__Secure-") && cookie.contains("; Path=/cams/"), "{cookie}");
    let logged_in = [&headers[..], &[("cookie", cookie.split(';').next().unwrap())]].concat();
    let client = with_headers(&logged_in);
    let me = client.get(server.url("/cams/api/me")).send().await.unwrap();
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&me.text().await.unwrap()).unwrap()["name"],
        "admin",
        "also if it keeps it"
    );
    let offer = std::fs::read_to_string("tests/offers/chromium-watch.sdp").unwrap();
    let watched = client.post(server.url("/whep/camera/demo")).header("content-type", "application/sdp");
    let watched = watched.body(offer).send().await.unwrap();
    assert_eq!(watched.status(), 201);
    assert!(watched.headers()["location"].to_str().unwrap().starts_with("/cams/session/"));
}

/// Each mistake has its own code, and administrators see it.
#[tokio::test]
async fn mistakes_are_told() {
    let textbook = [("x-forwarded-for", "192.0.2.1"), ("x-forwarded-proto", "https")];
    let local_ca = "";
    // Configuration, headers, path, status, code.
    type Headers<'a> = &'a [(&'static str, &'a str)];
    let table: [(&str, Headers<'_>, &str, u16, &str); 6] = [
        (
            OFF,
            &[("host", "localhost:1"), ("origin", "https://cam.example"), ("sec-fetch-site", "same-origin")],
            "/api/login",
            403,
            "proxy_host",
        ),
        (
            &format!("{TRUSTED}{OFF}"),
            &[
                ("host", "cam.example"),
                ("origin", "https://cam.example:8443"),
                ("x-forwarded-for", "192.0.2.1"),
            ],
            "/api/login",
            403,
            "proxy_host",
        ),
        (
            OFF,
            &[("host", "localhost:1"), ("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")],
            "/api/login",
            403,
            "foreign_origin",
        ),
        (OFF, &[("host", "cam.example"), textbook[0]], "/api/login", 421, "proxy_untrusted"),
        (
            local_ca,
            &[("host", "cam.example"), textbook[0], textbook[1]],
            "/api/login",
            421,
            "proxy_untrusted",
        ),
        (local_ca, &[("host", "cam.example"), ("sec-fetch-mode", "cors")], "/api/login", 421, "proxy_plain"),
    ];
    for (config, headers, path, status, code) in table {
        let server = behind(config).await;
        let found = log_in(&server, path, headers).await;
        assert_eq!((found.0, found.1.as_str()), (status, code), "{config} {headers:?}");
        let health = server.get(&server.http(), "/api/admin/health").await;
        let told = health["problems"].as_array().unwrap().iter().any(|problem| problem["code"] == code);
        assert_eq!(told, code != "foreign_origin", "{code}: {health}");
        // They are the proxy's mistakes: the server itself is ready.
        assert_eq!(server.http().get(server.url("/ready")).send().await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn a_page_that_is_refused_says_why_in_the_users_language() {
    let server = behind(OFF).await;
    let client = with_headers(&[
        ("host", "cam.example"),
        ("x-forwarded-for", "192.0.2.1"),
        ("accept", "text/html,*/*"),
        ("accept-language", "zh-CN,zh;q=0.9"),
    ]);
    let response = client.get(server.url("/")).send().await.unwrap();
    assert_eq!(response.status(), 421);
    assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/html"));
    let page = response.text().await.unwrap();
    assert!(page.contains("trusted_proxies") && page.contains("服务器"), "{page}");
}

#[tokio::test]
async fn a_trusted_proxy_may_use_http() {
    let server = behind(TRUSTED).await;
    let headers = [
        ("host", "cam.example"),
        ("origin", "https://cam.example"),
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-proto", "https"),
    ];
    let (status, code, cookie) = log_in(&server, "/api/login", &headers).await;
    assert_eq!((status, code.as_str()), (200, ""));
    assert!(cookie.starts_with("__Host-"), "{cookie}");
    // nginx changes the host unless told otherwise; then this header may say what it was.
    let renamed =
        [("host", "inside:1"), ("x-forwarded-host", "cam.example"), headers[1], headers[2], headers[3]];
    assert_eq!(log_in(&server, "/api/login", &renamed).await.0, 200);
}

#[tokio::test]
async fn a_websocket_without_its_upgrade_is_the_proxys_mistake() {
    let server = behind(&format!("{TRUSTED}{OFF}")).await;
    let response = server.http().get(server.url("/api/ws")).send().await.unwrap();
    assert_ne!(response.status(), 101);
    let cookie = log_in(&server, "/api/login", &[("host", "localhost")]).await.2;
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let headers = [
        ("cookie", cookie.as_str()),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("host", "localhost"),
    ];
    let response = with_headers(&headers).get(server.url("/api/ws")).send().await.unwrap();
    assert_eq!(response.status(), 426);
    let health = server.get(&server.http(), "/api/admin/health").await;
    assert_eq!(health["problems"][0]["code"], "websocket");
}

/// Sends bytes, then a request; returns the response.
async fn after(server: &Server, header: &[u8], cut: usize, request: &str) -> String {
    let mut stream = TcpStream::connect(server.gatehouse.address()).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let all = [header, request.as_bytes()].concat();
    // In two parts: the server must wait for the rest.
    stream.write_all(&all[..cut]).await.unwrap();
    tokio::task::yield_now().await;
    // A refused connection may be closed by now.
    let _ = stream.write_all(&all[cut..]).await;
    let mut answer = Vec::new();
    let _ = within("the answer", stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn the_proxy_protocol_names_the_client() {
    // Each login has its own name, so that none is delayed.
    let request = |name: &str| {
        let body = json!({ "name": name, "password": "wrong" }).to_string();
        let head = "POST /api/login HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close";
        let length = body.len();
        format!("{head}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
    };
    let address = |last| [192, 0, 2, last, 192, 0, 2, 200, 0x12, 0x34, 0x20, 0xfb];
    let second = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c"[..], &address(2)].concat();
    let first = b"PROXY TCP4 192.0.2.1 192.0.2.200 4660 8443\r\n".to_vec();
    let own = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00".to_vec();
    let server = behind(&format!("{TRUSTED}{OFF}")).await;
    for (header, expected) in [(first.clone(), "192.0.2.1"), (second, "192.0.2.2"), (own, "127.0.0.1")] {
        for cut in [1, 5, 13, header.len()] {
            let name = format!("{expected}-{cut}");
            let answer = after(&server, &header, cut, &request(&name)).await;
            assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
            let log = server.get(&server.http(), "/api/admin/log?action=login.failed").await;
            let entry = &log["entries"][0];
            assert_eq!((entry["target"].as_str(), entry["address"].as_str()), (Some(&*name), Some(expected)));
        }
    }
    let request = request("anna");
    assert_eq!(after(&server, b"PROXY TCP4 a b c d\r\n", 3, &request).await, "", "an invalid header");
    assert_eq!(after(&server, &[&first[..], &first].concat(), 3, &request).await, "", "two headers");
    let untrusting = behind(OFF).await;
    assert_eq!(after(&untrusting, &first, first.len(), &request).await, "", "an untrusted peer");
    let health = untrusting.get(&untrusting.http(), "/api/admin/health").await;
    assert_eq!(health["problems"][0]["code"], "proxy_protocol_untrusted");
}
