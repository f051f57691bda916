//! The older systems: on the main port and on ports of their own, from where they can be used, and what they show.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use gatehouse::config::{Config, Overrides};
use gatehouse::demo::DemoOptions;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::support::{camera, camera_toml, http, server, until, within};

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

async fn open(url: &str, origin: Option<&str>) -> Result<Socket, u16> {
    let mut request = url.replace("http://", "ws://").into_client_request().unwrap();
    if let Some(origin) = origin {
        request.headers_mut().insert("origin", origin.parse().unwrap());
    }
    match tokio_tungstenite::connect_async(request).await {
        Ok((socket, _)) => Ok(socket),
        Err(tokio_tungstenite::tungstenite::Error::Http(response)) => Err(response.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

async fn ask(socket: &mut Socket, frame: Value) -> Value {
    socket.send(Message::text(frame.to_string())).await.unwrap();
    receive(socket).await
}

async fn receive(socket: &mut Socket) -> Value {
    loop {
        match within("a frame", socket.next()).await.unwrap().unwrap() {
            Message::Text(text) => return serde_json::from_str(&text).unwrap(),
            Message::Close(frame) => return json!({ "closed": frame.map(|frame| u16::from(frame.code)) }),
            _ => {}
        }
    }
}

fn create(room: &str) -> Value {
    json!({ "code": 2000, "value": { "room_name": room }, "message": "" })
}

#[tokio::test]
async fn a_dispatch_room_on_the_main_port() {
    let server = server("[compat.dispatch]\nenabled = true\n").await;
    let url = server.url("/ws");
    let mut root = open(&url, None).await.unwrap();
    assert_eq!(ask(&mut root, create("yard")).await["value"], 10_000);
    let mut guest = open(&url, None).await.unwrap();
    let join = json!({ "code": 2001, "value": { "room_name": "yard", "username": "boy" }, "message": "" });
    assert_eq!(ask(&mut guest, join).await["message"], "加入成功");
    let offer = json!({ "code": 2002, "value": { "sdp": { "type": "offer", "sdp": "v=0" } }, "message": "" });
    assert_eq!(ask(&mut guest, offer).await["message"], "发送Offer SDP成功");
    assert_eq!(receive(&mut root).await["value"]["username"], "boy");

    // Administration sees both, and disconnects one.
    let list = server.get(&server.http(), "/api/admin/compat").await;
    assert_eq!(list["modes"][0]["mode"], "dispatch");
    let clients = list["clients"].as_array().unwrap();
    let seen: Vec<_> = clients.iter().map(|client| (&client["name"], &client["room"])).collect();
    assert_eq!(seen, [(&json!("root"), &json!("yard")), (&json!("boy"), &json!("yard"))]);
    let path = format!("/api/admin/compat/clients/{}", clients[1]["id"]);
    assert_eq!(server.send(&server.http(), "DELETE", &path, Value::Null).await.0, 204);
    assert_eq!(receive(&mut guest).await, json!({ "closed": 1008 }));
    assert_eq!(receive(&mut root).await["code"], 3000, "the root is told");

    // A guest whose room is closed is in none.
    let mut girl = open(&url, None).await.unwrap();
    let join = json!({ "code": 2001, "value": { "room_name": "yard", "username": "girl" }, "message": "" });
    assert_eq!(ask(&mut girl, join).await["message"], "加入成功");
    root.close(None).await.unwrap();
    assert_eq!(receive(&mut girl).await["code"], 10_001);
    let list = server.get(&server.http(), "/api/admin/compat").await;
    assert_eq!(list["clients"].as_array().unwrap().len(), 1);
    assert_eq!((&list["clients"][0]["name"], &list["clients"][0]["room"]), (&json!(""), &json!("")));
    assert_eq!(server.send(&server.http(), "DELETE", &path, Value::Null).await.0, 404);
}

#[tokio::test]
async fn a_mode_that_is_off_is_not_there() {
    let server = server("").await;
    assert_eq!(open(&server.url("/ws"), None).await.err(), Some(404));
    assert_eq!(http().get(server.url("/api/getMediaList")).send().await.unwrap().status(), 404);
    let list = server.get(&server.http(), "/api/admin/compat").await;
    assert_eq!(list, json!({ "modes": [], "clients": [] }));
}

#[tokio::test]
async fn other_networks_other_sites_and_those_without_the_secret_are_refused() {
    let toml = "[compat.dispatch]\nenabled = true\nnetworks = [\"10.0.0.0/8\"]\n";
    let elsewhere = server(toml).await;
    assert_eq!(open(&elsewhere.url("/ws"), None).await.err(), Some(403));
    let secret = server("[compat.dispatch]\nenabled = true\nsecret = \"blue-door-17\"\n").await;
    for path in ["/ws", "/blue-door-1/ws", "/blue-door-17", "/blue-door-17/", "/blue-door-17x/ws"] {
        assert_eq!(open(&secret.url(path), None).await.err(), Some(404), "{path}");
    }
    let url = secret.url("/blue-door-17/ws");
    assert_eq!(open(&url, Some("https://evil.example")).await.err(), Some(403));
    assert_eq!(open(&url, Some("null")).await.err(), Some(403));
    // The page drops its port.
    let mut root = open(&url, Some("https://127.0.0.1:9443")).await.unwrap();
    assert_eq!(ask(&mut root, create("yard")).await["value"], 10_000);
}

#[tokio::test]
async fn a_port_of_its_own_has_the_old_pages_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("www");
    std::fs::create_dir_all(pages.join("local")).unwrap();
    std::fs::write(pages.join("index.html"), "old start").unwrap();
    std::fs::write(pages.join("local/index.html"), "old page").unwrap();
    std::fs::write(pages.join("local/local.js"), "1").unwrap();
    std::fs::write(pages.join(".hidden"), "no").unwrap();
    std::fs::write(folder.path().join("outside"), "no").unwrap();
    std::os::unix::fs::symlink(folder.path().join("outside"), pages.join("link")).unwrap();
    let toml = format!(
        "[compat.dispatch]\nenabled = true\nlisten = [\"127.0.0.1:0\"]\ntls = false\npages = \"{}\"\n",
        pages.display()
    );
    let server = server(&toml).await;
    let base = format!("http://{}", server.gatehouse.compat_addresses()[0]);
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let get = async |path: &str| {
        let response = client.get(format!("{base}{path}")).send().await.unwrap();
        assert!(!response.headers().contains_key("content-security-policy"), "{path}");
        let header = |name| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let (status, kind, location) =
            (response.status().as_u16(), header("content-type"), header("location"));
        (status, kind.unwrap_or_default(), location, response.text().await.unwrap())
    };
    assert_eq!(get("/").await.3, "old start");
    assert_eq!(get("/local").await.2.as_deref(), Some("/local/"));
    assert_eq!(get("/local/").await.3, "old page");
    assert!(get("/local/local.js").await.1.contains("javascript"));
    for path in [
        "/.hidden",
        "/link",
        "/../outside",
        "/%2e%2e/outside",
        "/local/..%2f..%2foutside",
        "/api/cameras",
        "/api/me",
        "/health",
        "/v/1/js/wall-page.js",
        "//evil.example",
    ] {
        assert_eq!(get(path).await.0, 404, "{path}");
    }
    let mut root = open(&format!("{base}/ws"), None).await.unwrap();
    assert_eq!(ask(&mut root, create("yard")).await["value"], 10_000);
    assert_eq!(open(&server.url("/ws"), None).await.err(), Some(404), "not on the main port");
}

#[tokio::test]
async fn a_flood_slows_down_only_its_sender() {
    let server = server("[compat.dispatch]\nenabled = true\n").await;
    let url = server.url("/ws");
    let mut flooder = open(&url, None).await.unwrap();
    let flood = tokio::spawn(async move {
        loop {
            let frame = Message::text(json!({ "code": 1, "value": "x".repeat(2000) }).to_string());
            if flooder.feed(frame).await.is_err() {
                return;
            }
        }
    });
    let mut root = open(&url, None).await.unwrap();
    ask(&mut root, create("yard")).await;
    for _ in 0..30 {
        let reply = tokio::time::timeout(Duration::from_secs(2), ask(&mut root, json!({ "code": 1 }))).await;
        assert_eq!(reply.unwrap(), json!({ "code": 10_000, "value": "", "message": "" }));
    }
    flood.abort();
    let mut large = open(&url, None).await.unwrap();
    let too_large = json!({ "code": 2000, "value": { "room_name": "x".repeat(100_000) } });
    let _ = large.send(Message::text(too_large.to_string())).await;
    assert!(!matches!(large.next().await, Some(Ok(Message::Text(_)))), "closed");
    assert_eq!(ask(&mut root, json!({ "code": 1 })).await["code"], 10_000);
}

#[tokio::test]
async fn webrtc_streamer_shows_what_it_may() {
    let source = camera(DemoOptions::default()).await;
    let toml = ["open", "listed", "closed"].map(|id| {
        camera_toml(id, &source.url(), if id == "open" { "public = true" } else { "name = \"Tür\"" })
    });
    let mode = "[compat.webrtc_streamer]\nenabled = true\ncameras = [\"listed\"]\n";
    let server = server(&(toml.concat() + mode)).await;
    let get = async |path: &str| {
        let response = http().get(server.url(path)).send().await.unwrap();
        assert_eq!(response.headers()["access-control-allow-origin"], "*", "{path}");
        (
            response.status().as_u16(),
            serde_json::from_str(&response.text().await.unwrap()).unwrap_or(Value::Null),
        )
    };
    assert_eq!(get("/api/getMediaList").await.1, json!([{ "video": "open" }, { "video": "Tür" }]));
    assert_eq!(get("/api/getIceServers").await.1, json!({ "iceServers": [], "iceTransportPolicy": "all" }));
    for path in ["/api/getVideoDeviceList", "/api/getAudioDeviceList", "/api/getIceCandidate?peerid=1"] {
        assert_eq!(get(path).await, (200, json!([])));
    }
    let call = async |peer: &str, url: &str, body: &str| {
        let url = reqwest::Url::parse_with_params(&server.url("/api/call"), [("peerid", peer), ("url", url)]);
        // Without a type, as the page sends it.
        let response = http().post(url.unwrap()).body(body.to_owned()).send().await.unwrap();
        (
            response.status().as_u16(),
            serde_json::from_str(&response.text().await.unwrap()).unwrap_or(Value::Null),
        )
    };
    let offer = json!({ "type": "offer", "sdp": crate::support::offer(crate::support::H264) }).to_string();
    for url in ["open", "Tür", "listed", source.url().as_str()] {
        let (status, answer) = call(url, url, &offer).await;
        assert_eq!((status, &answer["type"]), (200, &json!("answer")), "{url}: {answer}");
        assert!(answer["sdp"].as_str().unwrap().contains("a=candidate:"));
    }
    for (url, body, expected) in [
        ("closed", offer.as_str(), 404),
        ("rtsp://192.0.2.1/other", offer.as_str(), 404),
        ("", offer.as_str(), 404),
        ("open", "{}", 400),
        ("open", "{\"type\":\"offer\",\"sdp\":\"nonsense\"}", 422),
    ] {
        assert_eq!(call("p", url, body).await.0, expected, "{url} {body}");
    }
    assert_eq!(get("/api/getPeerConnectionList").await.1.as_array().unwrap().len(), 4);
    assert_eq!(get("/api/hangup?peerid=open").await.1, json!(true));
    assert_eq!(get("/api/hangup?peerid=open").await.1, json!(false));
    assert_eq!(get("/api/getPeerConnectionList").await.1.as_array().unwrap().len(), 3);
    assert_eq!(get("/api/createOffer?peerid=1&url=open").await.0, 501);
    until("the first has left", || (server.status("open").viewers == 0).then_some(())).await;
}

#[test]
fn what_is_wrong_in_the_configuration() {
    let problems = |text: &str| {
        let config = Config::parse(text, "t", std::path::Path::new("."), &Overrides::default());
        config.err().map(|problems| problems.to_string()).unwrap_or_default()
    };
    for (text, expected) in [
        ("enabled = true\npages = \".\"", "pages requires listen"),
        ("enabled = true\nsecret = \"short\"", "at least 8"),
        ("enabled = true\nnetworks = [\"x\"]", "networks such as"),
        ("enabled = true\nlisten = [\"x\"]", "addresses with a port"),
        ("enabled = true\norigins = [\"evil\"]", "origins such as"),
        ("enabled = true\ncameras = []", "cameras is not known"),
        (
            "enabled = true\nlisten = [\"127.0.0.1:1\"]\n[compat.webrtc_streamer]\nenabled = true\nlisten = \
             [\"127.0.0.1:1\"]\ntls = false",
            "shares a port",
        ),
    ] {
        let found = problems(&format!("[compat.dispatch]\n{text}\n"));
        assert!(found.contains(expected), "{text}: {found}");
        assert!(!found.contains("short\""), "{found}");
    }
    assert_eq!(problems("[compat.dispatch]\nenabled = true\n"), "");
}
