//! WHEP and WHIP as players and publishers of others use them: what HTTP answers, and to whom.

use reqwest::{Method, Response, StatusCode};

use crate::sdp::{H264, offer};
use crate::support::{Server, bearer, camera, camera_toml, http, server};
use gatehouse::demo::DemoOptions;

const ORIGIN: &str = "https://player.example";

async fn post(server: &Server, client: &reqwest::Client, path: &str, body: String) -> Response {
    let request = client.post(server.url(path)).header("Content-Type", "application/sdp");
    request.header("Origin", ORIGIN).body(body).send().await.unwrap()
}

fn has_cors(response: &Response) -> bool {
    response.headers().get("access-control-allow-origin").is_some_and(|origin| origin == "*")
}

async fn code(response: Response) -> String {
    let body: serde_json::Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    body["error"]["code"].as_str().unwrap().to_owned()
}

/// Otherwise a player on another page sees a network error, and retries for ever.
#[tokio::test]
async fn every_refusal_can_be_read_by_other_origins() {
    let server = server("[[camera]]\nid = \"dead\"\nurl = \"rtsp://127.0.0.1:1/x\"\n").await;
    let (valid, invalid) = (bearer(&server.token), bearer("ght_invalid"));
    let large = offer(H264) + &"a=x:y\r\n".repeat(14_000);
    let table = [
        (&invalid, "/whep/camera/dead", offer(H264), 401, "unauthorized"),
        (&http(), "/whep/camera/dead", offer(H264), 401, "unauthorized"),
        (&valid, "/whep/camera/other", offer(H264), 404, "not_found"),
        (&valid, "/whep/camera/%E5%89", offer(H264), 404, "not_found"),
        (&valid, "/whep/camera/dead", large, 413, "too_large"),
        (&valid, "/whep/camera/dead", "v=0\r\nrubbish".into(), 422, "offer_unreadable"),
        (&valid, "/session/0123456789", offer(H264), 405, "method"),
    ];
    for (client, path, body, status, expected) in table {
        let response = post(&server, client, path, body).await;
        assert_eq!(response.status().as_u16(), status, "{path} {expected}");
        assert!(has_cors(&response), "{path} {expected}");
        assert_eq!(code(response).await, expected, "{path}");
    }
}

#[tokio::test]
async fn a_flood_of_requests_is_refused_readably() {
    let server = server("[limits]\nrequests_per_second = 1\n").await;
    let client = http();
    let refused = loop {
        let response = post(&server, &client, "/whep/camera/x", offer(H264)).await;
        if response.status() == StatusCode::TOO_MANY_REQUESTS {
            break response;
        }
    };
    assert!(has_cors(&refused) && refused.headers().contains_key("retry-after"));
}

#[tokio::test]
async fn what_clients_get_wrong_is_accepted_or_explained() {
    let camera = camera(DemoOptions::default()).await;
    let server = server(&camera_toml("c", &camera.url(), "")).await;
    let client = bearer(&server.token);
    let response = post(&server, &client, "/whep/camera/c/", offer(H264)).await;
    assert_eq!(response.status(), StatusCode::CREATED, "a trailing slash");
    let session = response.headers()["location"].to_str().unwrap().to_owned();
    let restart = |ufrag: &str, tag: &str| {
        let fragment = format!("a=ice-ufrag:{ufrag}\r\na=ice-pwd:0123456789012345678901\r\n");
        let request = client.patch(server.url(&session)).header("If-Match", tag).body(fragment);
        request.header("Content-Type", "application/trickle-ice-sdpfrag").send()
    };
    // More candidates need no tag, a restart does.
    for (ufrag, status) in [("abcd", StatusCode::NO_CONTENT), ("efgh", StatusCode::PRECONDITION_REQUIRED)] {
        let fragment = format!("a=ice-ufrag:{ufrag}\r\na=ice-pwd:0123456789012345678901\r\n");
        let request =
            client.patch(server.url(&session)).header("Content-Type", "application/trickle-ice-sdpfrag");
        assert_eq!(request.body(fragment).send().await.unwrap().status(), status, "{ufrag}");
    }
    for (ufrag, tag) in [("efgh", "*"), ("ijkl", "\"*\"")] {
        let response = restart(ufrag, tag).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{tag}");
        let fragment = response.text().await.unwrap();
        assert!(fragment.contains("a=ice-options:trickle\r\n"), "RFC 9725 §4.3.3: {fragment}");
    }
    let request = client.post(server.url("/whep/camera/c")).header("Content-Type", "application/sdp");
    let compressed = request.header("Content-Encoding", "gzip").body("x").send().await.unwrap();
    assert_eq!(compressed.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let head = client.head(server.url("/whep/camera/c")).send().await.unwrap();
    assert_eq!(
        (head.status(), &head.headers()["content-type"]),
        (StatusCode::OK, &"application/sdp".parse().unwrap())
    );
    for path in ["/whep/camera/c", "/api/cameras", "/js/bar.js"] {
        let put = client.request(Method::PUT, server.url(path)).send().await.unwrap();
        assert_eq!(put.status(), StatusCode::METHOD_NOT_ALLOWED, "{path}");
        assert!(put.headers()["allow"].to_str().unwrap().contains("GET"), "{path}");
        assert_eq!(code(put).await, "method", "{path}");
    }
}

/// The players' modules can be imported by a page of another origin, and those alone.
#[tokio::test]
async fn modules_for_other_sites() {
    let server = server("").await;
    for (path, expected) in [("/js/whep-player.js", true), ("/js/network.js", true), ("/js/bar.js", false)] {
        let response = http().get(server.url(path)).header("Origin", ORIGIN).send().await.unwrap();
        assert_eq!(has_cors(&response), expected, "{path}");
    }
}

#[tokio::test]
async fn text_is_compressed() {
    let server = server("").await;
    let get = |path: &str, encoding: &'static str| {
        http().get(server.url(path)).header("Accept-Encoding", encoding).send()
    };
    let plain = get("/js/call.js", "identity").await.unwrap();
    assert!(!plain.headers().contains_key("content-encoding"));
    let plain = plain.bytes().await.unwrap();
    let packed = get("/js/call.js", "gzip").await.unwrap();
    assert_eq!(packed.headers()["content-encoding"], "gzip");
    assert!(packed.headers()["vary"].to_str().unwrap().contains("accept-encoding"));
    assert!(packed.bytes().await.unwrap().len() * 2 < plain.len());
}

/// Over TLS, browsers fetch all of a page's modules over one connection.
#[tokio::test]
async fn http_2_is_offered() {
    let server = server("").await;
    let client = reqwest::Client::builder().tls_danger_accept_invalid_certs(true).build().unwrap();
    let port = server.gatehouse.address().port();
    for (path, status) in [("/health", StatusCode::OK), ("/api/cameras", StatusCode::UNAUTHORIZED)] {
        let response = client.get(format!("https://localhost:{port}{path}")).send().await.unwrap();
        assert_eq!((response.version(), response.status()), (reqwest::Version::HTTP_2, status), "{path}");
    }
}

/// An address that only this machine can reach is not offered to others, and the page can say so.
#[tokio::test]
async fn loopback_is_not_offered_to_viewers_behind_a_proxy() {
    let camera = camera(DemoOptions::default()).await;
    let camera = camera_toml("c", &camera.url(), "");
    let text = format!("trusted_proxies = [\"127.0.0.1\"]\n[tls]\nmode = \"off\"\n{camera}");
    let server = server(&text).await;
    let client = bearer(&server.token);
    for (viewer, expected) in [("127.0.0.1", 2), ("198.51.100.7", 0)] {
        let request = client.post(server.url("/whep/camera/c")).header("X-Forwarded-For", viewer);
        let response =
            request.header("Content-Type", "application/sdp").body(offer(H264)).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::CREATED);
        let answer = response.text().await.unwrap();
        assert_eq!(answer.matches("a=candidate:").count(), expected, "{viewer}: {answer}");
    }
}
