//! The status codes of WHEP, which public players depend on.

use crate::support::{H264, Server, camera, camera_toml, clip, offer, server};
use gatehouse::demo::DemoOptions;
use reqwest::{Method, Response, StatusCode};

const SDP: &str = "application/sdp";
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";

async fn post(server: &Server, stream: &str, content_type: &str, body: String) -> Response {
    let url = server.url(&format!("/whep/{stream}"));
    server.http().post(url).header("content-type", content_type).body(body).send().await.unwrap()
}

fn header(response: &Response, name: &str) -> String {
    response.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

async fn code(response: Response) -> String {
    let text = response.text().await.unwrap();
    let body: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
    body["error"]["code"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_viewer_comes_and_goes() {
    let server = server("").await;
    let response = post(&server, "camera/demo", "application/sdp; charset=utf-8", offer(H264)).await;
    assert_eq!(response.status(), StatusCode::CREATED);
    assert_eq!(header(&response, "content-type"), SDP);
    assert_eq!(header(&response, "access-control-allow-origin"), "*");
    let exposed = header(&response, "access-control-expose-headers");
    assert!(["Location", "ETag", "Link", "Accept-Patch"].iter().all(|name| exposed.contains(name)));
    let (location, tag) = (header(&response, "location"), header(&response, "etag"));
    assert!(location.starts_with("/session/"), "{location}");
    let answer = response.text().await.unwrap();
    assert!(answer.contains("a=sendonly") && answer.contains(" typ host tcptype passive"));
    assert!(answer.contains("a=end-of-candidates"));

    let resource = server.url(&location);
    let patch = |tag: Option<&str>, body: &str| {
        let request = server.http().patch(&resource).header("content-type", FRAGMENT).body(body.to_owned());
        let request = match tag {
            Some(tag) => request.header("if-match", tag),
            None => request,
        };
        request.send()
    };
    let candidate =
        "m=video 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\na=candidate:1 1 udp 1 127.0.0.1 50000 typ host\r\n";
    assert_eq!(patch(Some(&tag), candidate).await.unwrap().status(), StatusCode::NO_CONTENT);
    assert_eq!(patch(Some("*"), candidate).await.unwrap().status(), StatusCode::NO_CONTENT);
    assert_eq!(patch(Some("\"other\""), candidate).await.unwrap().status(), StatusCode::PRECONDITION_FAILED);
    assert_eq!(patch(None, candidate).await.unwrap().status(), StatusCode::NO_CONTENT);
    assert_eq!(patch(Some(&tag), "rubbish").await.unwrap().status(), StatusCode::UNPROCESSABLE_ENTITY);
    let wrong =
        server.http().patch(&resource).header("if-match", &tag).header("content-type", SDP).body("").send();
    assert_eq!(wrong.await.unwrap().status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);

    let restart = "a=ice-ufrag:efgh\r\na=ice-pwd:9999999999999999999999\r\n";
    assert_eq!(patch(None, restart).await.unwrap().status(), StatusCode::PRECONDITION_REQUIRED);
    let restarted = patch(Some("*"), restart).await.unwrap();
    assert_eq!(restarted.status(), StatusCode::OK);
    let new_tag = header(&restarted, "etag");
    assert!(!new_tag.is_empty() && new_tag != tag);
    let fragment = restarted.text().await.unwrap();
    assert!(fragment.contains("a=ice-ufrag:") && fragment.contains("a=candidate:"), "{fragment}");
    assert_eq!(patch(Some(&tag), candidate).await.unwrap().status(), StatusCode::PRECONDITION_FAILED);
    assert_eq!(patch(Some(&new_tag), candidate).await.unwrap().status(), StatusCode::NO_CONTENT);

    assert_eq!(server.http().get(&resource).send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(server.http().delete(&resource).send().await.unwrap().status(), StatusCode::OK);
    crate::support::until("the session is gone", || {
        (server.gatehouse.engine().sessions() == 0).then_some(())
    })
    .await;
    assert_eq!(server.http().delete(&resource).send().await.unwrap().status(), StatusCode::NOT_FOUND);
    assert_eq!(patch(Some(&new_tag), candidate).await.unwrap().status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn requests_before_an_offer() {
    let servers = "[[media.ice_server]]\nurls = [\"stun:s.example:3478\", \"turn:t.example\"]\nusername = \"u\"\ncredential = \"p\\\"q\"\n";
    let server = server(servers).await;
    let url = server.url("/whep/camera/demo");
    let options = server.http().request(Method::OPTIONS, &url).send().await.unwrap();
    assert_eq!(options.status(), StatusCode::NO_CONTENT);
    assert_eq!(header(&options, "accept-post"), SDP);
    assert!(header(&options, "access-control-allow-methods").contains("PATCH"));
    let links: Vec<_> =
        options.headers().get_all("link").iter().map(|value| value.to_str().unwrap()).collect();
    assert_eq!(links.len(), 2);
    assert!(
        links[1].starts_with("<turn:t.example>; rel=\"ice-server\"; username=\"u\"; credential=\"p\\\"q\"")
    );
    for method in [Method::GET, Method::HEAD] {
        assert_eq!(server.http().request(method, &url).send().await.unwrap().status(), StatusCode::OK);
    }
    assert_eq!(server.http().put(&url).send().await.unwrap().status(), StatusCode::METHOD_NOT_ALLOWED);
    let unknown = server.url("/whep/camera/none");
    assert_eq!(server.http().get(&unknown).send().await.unwrap().status(), StatusCode::NOT_FOUND);
    assert_eq!(
        server.http().get(server.url("/session/0")).send().await.unwrap().status(),
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn unusable_offers_are_refused() {
    let server = server("").await;
    for (stream, content_type, body, status, expected) in [
        ("camera/none", SDP, offer(H264), 404, "not_found"),
        ("camera/..%2F..%2Fetc%2Fpasswd", SDP, offer(H264), 404, "not_found"),
        ("camera/demo", "text/plain", offer(H264), 415, "content_type"),
        ("camera/demo", "", offer(H264), 415, "content_type"),
        ("camera/demo", SDP, "hello".into(), 422, "offer_unreadable"),
        ("camera/demo", SDP, String::new(), 422, "offer_unreadable"),
        ("camera/demo", SDP, offer(H264).replace("ice-pwd", "x"), 422, "offer_unreadable"),
        ("camera/demo", SDP, offer("a=rtpmap:102 VP8/90000\r\n"), 422, "no_common_codec"),
    ] {
        let response = post(&server, stream, content_type, body).await;
        assert_eq!(response.status().as_u16(), status, "{stream} {content_type} {expected}");
        assert_eq!(code(response).await, expected);
    }
    let response = post(&server, "camera/demo", SDP, offer("a=rtpmap:102 VP8/90000\r\n")).await;
    let text = response.text().await.unwrap();
    assert!(text.contains("VP8") && text.contains("H264"), "{text}");
    let huge = post(&server, "camera/demo", SDP, "v=0\r\n".repeat(20_000)).await;
    assert_eq!(huge.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(server.gatehouse.engine().sessions(), 0);
}

#[tokio::test]
async fn a_data_channel_is_rejected_and_the_rest_works() {
    let server = server("").await;
    let with_data =
        offer(H264) + "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:1\r\na=sctp-port:5000\r\n";
    let response = post(&server, "camera/demo", SDP, with_data).await;
    assert_eq!(response.status(), StatusCode::CREATED);
    let answer = response.text().await.unwrap();
    assert!(answer.contains("m=application 0 UDP/DTLS/SCTP webrtc-datachannel"), "{answer}");
}

#[tokio::test]
async fn an_unreachable_camera() {
    // A port that nobody listens on: bound and released.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = server(&camera_toml("gone", &format!("rtsp://127.0.0.1:{port}/x"), "")).await;
    let response = post(&server, "camera/gone", SDP, offer(H264)).await;
    assert_eq!(response.status(), StatusCode::CONFLICT);
    assert!(!header(&response, "retry-after").is_empty());
    assert_eq!(code(response).await, "camera_unreachable");
}

#[tokio::test]
async fn one_viewer_too_many() {
    let server = server("[media]\nmax_viewers = 2\n").await;
    for _ in 0..2 {
        assert_eq!(post(&server, "camera/demo", SDP, offer(H264)).await.status(), StatusCode::CREATED);
    }
    let response = post(&server, "camera/demo", SDP, offer(H264)).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(!header(&response, "retry-after").is_empty());
    assert_eq!(code(response).await, "too_many_viewers");
}

#[tokio::test]
async fn b_frames_are_refused_with_a_reason() {
    let camera = camera(DemoOptions { clip: Some(clip("b-frames.h264")), ..DemoOptions::default() }).await;
    let server = server(&camera_toml("b", &camera.url(), "")).await;
    server.wait_for("b", "B-frames are detected", |status| status.problem.is_some()).await;
    let response = post(&server, "camera/b", SDP, offer(H264)).await;
    assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(code(response).await, "camera_b_frames");
    let api = server.http().get(server.url("/api/cameras/b")).send().await.unwrap().text().await.unwrap();
    let api: serde_json::Value = serde_json::from_str(&api).unwrap();
    assert_eq!(api["problem"]["code"], "camera_b_frames");
    assert_eq!(api["video"]["b_frames"], true);
}
