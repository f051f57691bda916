//! Logins, tokens and tickets, and that sessions and sockets end when these do.

use std::time::{Duration, Instant};

use crate::support::{
    PASSWORD, Server, bearer, camera, camera_toml, http, server, until, with_headers, within,
};
use gatehouse::accounts::permissions::Role;
use gatehouse::accounts::users::UserChange;
use gatehouse::demo::DemoOptions;
use gatehouse::secret::Secret;
use serde_json::json;
use url::Url;

/// Sessions end within this time after a revocation. The promise is a second; machines under load get more.
const SOON: Duration = Duration::from_secs(5);

async fn log_in(server: &Server, name: &str, password: &str) -> (u16, serde_json::Value, Option<String>) {
    let body = json!({ "name": name, "password": password }).to_string();
    let request = http().post(server.url("/api/login")).header("content-type", "application/json").body(body);
    let response = request.send().await.unwrap();
    let cookie = response.headers().get("set-cookie").map(|value| value.to_str().unwrap().to_owned());
    (response.status().as_u16(), serde_json::from_str(&response.text().await.unwrap()).unwrap(), cookie)
}

#[tokio::test]
async fn the_first_admin_gets_a_password_that_has_to_be_changed() {
    let data = tempfile::tempdir().unwrap();
    let (accounts, password) = gatehouse::accounts::Accounts::open(data.path(), None).await.unwrap();
    let password = password.unwrap();
    let here = [127, 0, 0, 1].into();
    let made = accounts.log_in("admin", &password, here, "test").await.unwrap();
    assert!(made.caller.identity().unwrap().must_change);
    let new = Secret::new("another-violet-kettle");
    accounts.change_own_password(&made.caller, &password, &new, here).await.unwrap();
    let behind = accounts.behind(made.caller.credential().unwrap()).await.unwrap().unwrap();
    assert!(!behind.identity().unwrap().must_change);
    drop(accounts);
    let (_, again) = gatehouse::accounts::Accounts::open(data.path(), None).await.unwrap();
    assert!(again.is_none(), "only the first start creates one");
}

#[tokio::test]
async fn a_login_and_its_cookie() {
    let server = server("").await;
    let (status, me, cookie) = log_in(&server, "ADMIN", PASSWORD).await;
    assert_eq!((status, &me["name"], &me["may"]["administer"]), (200, &json!("admin"), &json!(true)));
    let cookie = cookie.unwrap();
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax") && cookie.contains("Path=/"),
        "{cookie}"
    );
    // Plain HTTP on this machine: Safari would refuse Secure here. Over TLS it is set: see the TLS tests.
    assert!(!cookie.contains("Secure"), "{cookie}");
    let wrong = log_in(&server, "admin", "wrong-password").await;
    let unknown = log_in(&server, "nobody", "wrong-password").await;
    assert_eq!((wrong.0, &wrong.1), (401, &unknown.1), "indistinguishable from an unknown user");
    assert_eq!(wrong.1["error"]["code"], "wrong_password");
    let anna = server.user("anna", Role::Member).await;
    assert_eq!(server.get(&anna, "/api/me").await["name"], "anna");
    assert_eq!(server.send(&anna, "POST", "/api/logout", json!(null)).await.0, 204);
    assert_eq!(server.get(&anna, "/api/me").await, json!(null));
}

#[tokio::test]
async fn guessing_is_throttled_and_does_not_reveal_accounts() {
    let server = server("").await;
    for name in ["admin", "nobody"] {
        let mut answers = Vec::new();
        for _ in 0..6 {
            answers.push(log_in(&server, name, "wrong-password").await.0);
        }
        assert_eq!(answers, [401, 401, 401, 401, 401, 429], "{name}");
    }
    let (status, body, _) = log_in(&server, "admin", PASSWORD).await;
    assert_eq!(
        (status, &body["error"]["code"]),
        (429, &json!("too_many_attempts")),
        "even the correct one is delayed"
    );
}

#[tokio::test]
async fn a_password_change_ends_all_other_logins() {
    let server = server("").await;
    let (here, there) = (server.user("anna", Role::Member).await, server.log_in("anna").await);
    let weak = json!({ "current": PASSWORD, "new": "anna1234" });
    let (status, body) = server.send(&here, "PUT", "/api/me/password", weak).await;
    assert_eq!((status, &body["error"]["code"]), (422, &json!("weak_password")));
    let wrong = json!({ "current": "not-this-one", "new": "a-new-kettle-42" });
    assert_eq!(server.send(&here, "PUT", "/api/me/password", wrong).await.0, 401);
    let right = json!({ "current": PASSWORD, "new": "a-new-kettle-42" });
    assert_eq!(server.send(&here, "PUT", "/api/me/password", right).await.0, 204);
    assert_eq!(server.get(&here, "/api/me").await["name"], "anna");
    assert_eq!(server.get(&there, "/api/me").await, json!(null));
}

/// Starts a viewer, revokes its permission with `end`, and expects the session to end.
async fn picture_ends(what: &str, end: impl AsyncFnOnce(&Server)) {
    let camera = camera(DemoOptions::default()).await;
    let server = server(&camera_toml("c", &camera.url(), "")).await;
    let anna = server.user("anna", Role::Member).await;
    let body = json!({ "name": "player", "scopes": { "watch": true }, "days": null });
    let (status, made) = server.send(&anna, "POST", "/api/me/tokens", body).await;
    assert_eq!(status, 201);
    let token = Secret::new(made["token"].as_str().unwrap());
    let url = Url::parse(&server.url("/whep/camera/c")).unwrap();
    let mut viewer = server.watch_with(&url, &token).await.unwrap();
    viewer.video().await;
    let other = server.watch("c").await;
    let mut changes = server.gatehouse.accounts().changes();
    end(&server).await;
    within("the change is detected", changes.changed()).await.unwrap();
    let start = Instant::now();
    until(what, || (server.gatehouse.engine().sessions() == 1).then_some(())).await;
    assert!(start.elapsed() < SOON, "{what}: {:?}", start.elapsed());
    assert!(viewer.ended().await, "{what}: the viewer is disconnected");
    assert_eq!(server.gatehouse.engine().sessions(), 1, "{what}: other viewers stay connected");
    drop(other);
    let entries = || async {
        let log = server.get(&server.http(), "/api/admin/log?action=watch&actor=anna").await;
        log["entries"][0]["until"].as_i64()
    };
    let start = Instant::now();
    while entries().await.is_none() {
        assert!(start.elapsed() < SOON, "{what}: the end is in the log");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_picture_ends_when_its_token_ends() {
    picture_ends("token", async |server| {
        let token = server.gatehouse.accounts().tokens("anna").await.unwrap()[0].id;
        server.gatehouse.accounts().end_token("anna", token).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_picture_ends_when_the_camera_is_withdrawn() {
    picture_ends("camera", async |server| {
        let body = json!({ "allow": ["role:dispatcher"] });
        assert_eq!(server.send(&server.http(), "PUT", "/api/admin/cameras/c/allow", body).await.0, 204);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_picture_ends_when_the_console_disables_its_user() {
    picture_ends("console", async |server| {
        let data = server.data.path().join("data");
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_gatehouse"));
        command.args(["user", "--data", data.to_str().unwrap(), "disable", "anna"]);
        let output = command.env_remove("GATEHOUSE_CONFIG").output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    })
    .await;
}

#[tokio::test]
async fn a_socket_ends_with_its_login() {
    use futures::{SinkExt, StreamExt};
    use tokio_tungstenite::tungstenite::client::IntoClientRequest;
    use tokio_tungstenite::tungstenite::{Error, Message};
    let server = server("").await;
    let anna = server.user("anna", Role::Member).await;
    let (_, _, cookie) = log_in(&server, "anna", PASSWORD).await;
    let cookie = cookie.unwrap().split(';').next().unwrap().to_owned();
    let request = |origin: &str| {
        let mut request = server.url("/api/ws").replace("http:", "ws:").into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", "gatehouse.v1".parse().unwrap());
        request.headers_mut().insert("cookie", cookie.parse().unwrap());
        request.headers_mut().insert("origin", origin.parse().unwrap());
        request
    };
    let foreign = tokio_tungstenite::connect_async(request("https://evil.example")).await;
    assert!(matches!(foreign, Err(Error::Http(response)) if response.status() == 403));
    let (mut socket, _) = tokio_tungstenite::connect_async(request(&server.url(""))).await.unwrap();
    let hello = r#"{"id":"1","type":"hello","body":{"device":"a"}}"#;
    socket.send(Message::Text(hello.into())).await.unwrap();
    let welcome = socket.next().await.unwrap().unwrap();
    assert!(welcome.to_text().unwrap().contains("welcome"), "{welcome}");
    let (status, _) = server.send(&anna, "DELETE", "/api/me/logins", json!(null)).await;
    assert_eq!(status, 204);
    let closed = within("the socket is closed", async {
        loop {
            if let Message::Close(frame) = socket.next().await.unwrap().unwrap() {
                return frame.unwrap();
            }
        }
    });
    assert_eq!(u16::from(closed.await.code), 4401);
}

#[tokio::test]
async fn a_ticket_shows_one_camera_until_it_expires() {
    let camera = camera(DemoOptions::default()).await;
    let both = camera_toml("c", &camera.url(), "") + &camera_toml("other", &camera.url(), "");
    let server = server(&both).await;
    let body = json!({ "camera": "c", "seconds": 2 });
    let (status, ticket) = server.send(&server.http(), "POST", "/api/tickets", body).await;
    assert_eq!(status, 201);
    let token = ticket["token"].as_str().unwrap();
    assert!(ticket["path"].as_str().unwrap().starts_with("/embed/camera/c#token="));
    let page = bearer(token);
    assert_eq!(page.get(server.url("/whep/camera/c")).send().await.unwrap().status(), 200);
    assert_eq!(page.get(server.url("/whep/camera/other")).send().await.unwrap().status(), 403);
    assert_eq!(page.get(server.url("/whep/camera/none")).send().await.unwrap().status(), 403);
    let url = Url::parse(&server.url("/whep/camera/c")).unwrap();
    let mut viewer = server.watch_with(&url, &Secret::new(token)).await.unwrap();
    viewer.video().await;
    assert!(viewer.ended().await, "when the ticket expires");
    assert_eq!(page.get(server.url("/whep/camera/c")).send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn forbidden_cameras_are_hidden() {
    let camera = camera(DemoOptions::default()).await;
    let url = camera.url();
    let text = camera_toml("open", &url, "public = true")
        + &camera_toml("staff", &url, "")
        + &camera_toml("night", &url, "allow = [\"group:Night\"]");
    let server = server(&text).await;
    let anna = server.user("anna", Role::Member).await;
    let gus = server.user("gus", Role::Guest).await;
    let ids = async |client: &reqwest::Client| -> Vec<String> {
        let cameras = server.get(client, "/api/cameras").await;
        cameras["cameras"].as_array().unwrap().iter().map(|c| c["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&http()).await, ["open"]);
    assert_eq!(ids(&gus).await, ["open"]);
    assert_eq!(ids(&anna).await, ["open", "staff"]);
    assert_eq!(ids(&server.http()).await, ["open", "staff", "night"]);
    let status = async |client: &reqwest::Client, camera: &str| {
        client.get(server.url(&format!("/whep/camera/{camera}"))).send().await.unwrap().status().as_u16()
    };
    assert_eq!((status(&http(), "open").await, status(&http(), "staff").await), (200, 401));
    assert_eq!(status(&http(), "none").await, 401, "the same as for an existing camera");
    assert_eq!((status(&anna, "staff").await, status(&anna, "night").await), (200, 404));
    let (made, _) =
        server.send(&server.http(), "PUT", "/api/admin/groups/Night", json!({ "members": ["anna"] })).await;
    assert_eq!(made, 204);
    assert_eq!(status(&anna, "night").await, 200);
    let (by_file, body) =
        server.send(&server.http(), "PUT", "/api/admin/cameras/night/allow", json!({ "allow": [] })).await;
    assert_eq!((by_file, &body["error"]["code"]), (409, &json!("set_by_file")));
}

#[tokio::test]
async fn cameras_are_added_changed_and_removed_by_the_api() {
    let camera = camera(DemoOptions::default()).await;
    let server = server("").await;
    let admin = server.http();
    let add = json!({ "id": "door", "name": "Door", "url": camera.url(), "username": "u", "password": "planted-door-pw" });
    assert_eq!(server.send(&admin, "POST", "/api/admin/cameras", add.clone()).await.0, 201);
    assert_eq!(server.send(&admin, "POST", "/api/admin/cameras", add).await.0, 409);
    server.watch("door").await.video().await;
    let shown = server.get(&admin, "/api/admin/cameras").await;
    assert_eq!(shown["cameras"].as_array().unwrap().len(), 1, "the simulated camera is gone");
    assert!(shown["cameras"][0]["has_password"] == true && !shown.to_string().contains("planted"), "{shown}");
    // The same host and user: the password is kept. Another host: it must not be sent there.
    let rename = json!({ "name": "前门", "url": camera.url(), "username": "u" });
    assert_eq!(server.send(&admin, "PUT", "/api/admin/cameras/door", rename).await.0, 204);
    let elsewhere = json!({ "name": "x", "url": "rtsp://192.0.2.1/1", "username": "u" });
    let (status, body) = server.send(&admin, "PUT", "/api/admin/cameras/door", elsewhere.clone()).await;
    assert_eq!((status, &body["error"]["code"]), (422, &json!("password_again")));
    let mut probe = elsewhere;
    probe["id"] = json!("door");
    assert_eq!(server.send(&admin, "POST", "/api/admin/probe", probe).await.0, 422, "nor to a probe");
    let probe = json!({ "name": "x", "url": camera.url() });
    let (status, report) = server.send(&admin, "POST", "/api/admin/probe", probe).await;
    assert_eq!((status, &report["stream"]["info"]["width"]), (200, &json!(1280)));
    for bad in ["http://x/", "rtsp://", "file:///etc/passwd", "x"] {
        let body = json!({ "id": "bad", "name": "x", "url": bad });
        assert_eq!(server.send(&admin, "POST", "/api/admin/cameras", body).await.0, 422, "{bad}");
    }
    assert_eq!(server.send(&admin, "DELETE", "/api/admin/cameras/door", json!(null)).await.0, 204);
    until("the simulated camera is back", || server.gatehouse.cameras().get("demo")).await;
}

#[tokio::test]
async fn the_last_admin_stays() {
    let server = server("").await;
    let admin = server.log_in("admin").await;
    for (method, body) in [
        ("DELETE", json!(null)),
        ("PATCH", json!({ "disabled": true })),
        ("PATCH", json!({ "role": "member" })),
    ] {
        let (status, answer) = server.send(&admin, method, "/api/admin/users/admin", body).await;
        assert_eq!((status, &answer["error"]["code"]), (409, &json!("last_admin")), "{method}");
    }
    server.user("ada", Role::Admin).await;
    assert_eq!(
        server.send(&admin, "PATCH", "/api/admin/users/admin", json!({ "role": "member" })).await.0,
        204
    );
    assert_eq!(server.send(&admin, "GET", "/api/admin/users", json!(null)).await.0, 403, "at once");
}

#[tokio::test]
async fn bad_names_and_bodies_are_refused() {
    let server = server("").await;
    let admin = server.log_in("admin").await;
    for name in ["", "a b", "<img>", ".x", "ü", &"x".repeat(65), "a/b", "a\nb"] {
        let (status, _) =
            server.send(&admin, "POST", "/api/admin/users", json!({ "name": name, "role": "member" })).await;
        assert_eq!(status, 422, "{name:?}");
    }
    for body in [
        json!({}),
        json!([]),
        json!({ "name": "x", "role": "boss" }),
        json!({ "name": "x", "role": "member", "more": 1 }),
    ] {
        assert_eq!(server.send(&admin, "POST", "/api/admin/users", body).await.0, 422);
    }
    let huge = json!({ "name": "x".repeat(100_000), "role": "member" });
    assert_eq!(server.send(&admin, "POST", "/api/admin/users", huge).await.0, 413);
    let long = server.url(&format!("/api/cameras/{}", "x".repeat(4000)));
    assert_eq!(admin.get(long).send().await.unwrap().status(), 414);
    let display = json!({ "name": "bo", "role": "member", "display": "<img src=x onerror=alert(1)>" });
    assert_eq!(server.send(&admin, "POST", "/api/admin/users", display).await.0, 201, "pages escape it");
}

#[tokio::test]
async fn requests_from_other_origins_are_refused() {
    let server = server("").await;
    let (_, _, cookie) = log_in(&server, "admin", PASSWORD).await;
    let cookie = cookie.unwrap().split(';').next().unwrap().to_owned();
    let body = json!({ "name": "eve", "role": "admin" });
    for origin in ["https://evil.example", "null"] {
        let evil = with_headers(&[("cookie", &cookie), ("origin", origin)]);
        let (status, answer) = server.send(&evil, "POST", "/api/admin/users", body.clone()).await;
        assert_eq!((status, &answer["error"]["code"]), (403, &json!("foreign_origin")), "{origin}");
        let login = json!({ "name": "admin", "password": PASSWORD });
        let (status, _) =
            server.send(&with_headers(&[("origin", origin)]), "POST", "/api/login", login).await;
        assert_eq!(status, 403, "not even a login");
    }
    let silent = with_headers(&[("cookie", &cookie)]);
    assert_eq!(
        server.send(&silent, "POST", "/api/admin/users", body).await.0,
        403,
        "browsers send an Origin"
    );
}

#[tokio::test]
async fn the_log_records_who_did_what() {
    let server = server("").await;
    let admin = server.http();
    log_in(&server, "admin", "wrong-password").await;
    let by_page = server.log_in("admin").await;
    server.send(&by_page, "POST", "/api/admin/users", json!({ "name": "bo", "role": "guest" })).await;
    let (by_token, _) =
        server.send(&admin, "POST", "/api/admin/users", json!({ "name": "ba", "role": "admin" })).await;
    assert_eq!(by_token, 403, "a token cannot create accounts");
    let failed = server.get(&admin, "/api/admin/log?action=login.failed").await;
    assert_eq!(failed["entries"][0]["action"], "login.failed");
    assert_eq!(failed["entries"][0]["address"], "127.0.0.1");
    let logins = server.get(&admin, "/api/admin/log?action=login").await;
    assert!(logins["entries"].as_array().unwrap().len() > 1, "includes login.failed: {logins}");
    assert_eq!(
        server.get(&admin, "/api/admin/log?action=log").await["entries"],
        json!([]),
        "no match on a part of a word"
    );
    let users = server.get(&admin, "/api/admin/log?action=user&target=BO").await;
    assert_eq!(users["entries"][0]["actor"], "admin");
    let none = server.get(&admin, "/api/admin/log?from=99999999999999").await;
    assert_eq!(none["entries"], json!([]));
    let csv = admin.get(server.url("/api/admin/log.csv?actor=admin")).send().await.unwrap();
    assert!(csv.headers()["content-disposition"].to_str().unwrap().contains("gatehouse-log.csv"));
    assert!(csv.text().await.unwrap().lines().any(|line| line.contains("user.added,bo,guest")));
    assert_eq!(admin.get(server.url("/api/admin/log?bad=1")).send().await.unwrap().status(), 422);
}

#[tokio::test]
async fn requests_are_limited_in_number() {
    let server = server("[limits]\nrequests_per_second = 2\n").await;
    let mut refused = None;
    for _ in 0..60 {
        let response = http().get(server.url("/health")).send().await.unwrap();
        if response.status() == 429 {
            refused = Some(response);
            break;
        }
    }
    assert!(refused.unwrap().headers().contains_key("retry-after"));
}

#[tokio::test]
async fn connections_of_one_address_are_limited_in_number() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let server = server("[limits]\nconnections_per_address = 8\n").await;
    let connect = async || tokio::net::TcpStream::connect(server.gatehouse.address()).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(connect().await);
    }
    let mut ninth = connect().await;
    let mut byte = [0];
    let end = within("the connection is closed", ninth.read(&mut byte)).await;
    assert!(matches!(end, Ok(0) | Err(_)));
    drop(held);
    let start = Instant::now();
    loop {
        let mut next = connect().await;
        let _ = next.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
        if matches!(next.read(&mut byte).await, Ok(1)) {
            break;
        }
        assert!(start.elapsed() < SOON, "a connection is accepted again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn users_from_the_console() {
    let server = server("").await;
    let data = server.data.path().join("data");
    let run = async |arguments: &[&str], input: &str| {
        use tokio::io::AsyncWriteExt;
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_gatehouse"));
        command.arg("user").args(arguments).args(["--data", data.to_str().unwrap()]);
        command.env_remove("GATEHOUSE_CONFIG").env_remove("GATEHOUSE_DATA");
        let pipe = std::process::Stdio::piped;
        let mut child = command.stdin(pipe()).stdout(pipe()).stderr(pipe()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
        let output = child.wait_with_output().await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.success(), text(output.stdout), text(output.stderr))
    };
    assert!(run(&["passwd", "admin"], "violet-41-kettle\n").await.0);
    assert!(run(&["add", "anna", "--role", "dispatcher"], "another-kettle-7\n").await.0);
    let (good, _, error) = run(&["add", "bert"], "short\n").await;
    assert!(!good && error.contains("too easy"), "{error}");
    assert!(!run(&["add", "anna"], "another-kettle-7\n").await.0, "the name is taken");
    let (_, random, _) = run(&["add", "carl", "--random"], "").await;
    assert_eq!(random.trim().len(), 19);
    let (_, token, _) = run(&["token", "anna", "--scope", "watch"], "").await;
    assert!(token.starts_with("ght_"));
    assert!(run(&["disable", "anna"], "").await.0);
    let (_, list, _) = run(&["list"], "").await;
    assert!(list.lines().any(|line| line.starts_with("anna") && line.contains("disabled")), "{list}");
    assert!(run(&["remove", "anna"], "").await.0);
    assert!(!run(&["remove", "admin"], "").await.0, "the last admin stays");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&data).unwrap().permissions());
    assert_eq!(mode & 0o077, 0);
}

#[tokio::test]
async fn a_reused_name_inherits_nothing() {
    let camera = camera(DemoOptions::default()).await;
    let server = server(&camera_toml("c", &camera.url(), "")).await;
    server.user("anna", Role::Guest).await;
    let body = json!({ "allow": ["user:Anna", "role:dispatcher"] });
    assert_eq!(server.send(&server.http(), "PUT", "/api/admin/cameras/c/allow", body).await.0, 204);
    server.gatehouse.accounts().remove_user("anna").await.unwrap();
    let anna = server.user("anna", Role::Guest).await;
    assert_eq!(anna.get(server.url("/whep/camera/c")).send().await.unwrap().status(), 404);
    let lists = server.gatehouse.accounts().camera_lists().await.unwrap();
    assert_eq!(lists["c"].len(), 1);
}

#[tokio::test]
async fn a_ticket_allows_only_what_its_creator_may() {
    let server = server("").await;
    let dan = server.user("dan", Role::Dispatcher).await;
    let (_, ticket) = server.send(&dan, "POST", "/api/tickets", json!({ "camera": "demo" })).await;
    let page = bearer(ticket["token"].as_str().unwrap());
    let status = async || page.get(server.url("/whep/camera/demo")).send().await.unwrap().status().as_u16();
    assert_eq!(status().await, 200);
    let demote = UserChange { role: Some(Role::Member), ..UserChange::default() };
    server.gatehouse.accounts().change_user("dan", demote).await.unwrap();
    assert_eq!(status().await, 403);
    let fresh = Secret::new("another-kettle-9");
    server.gatehouse.accounts().reset_password("dan", &fresh, false).await.unwrap();
    assert_eq!(status().await, 401);
}

/// A new database would have a new administrator, and the server would not read it.
#[tokio::test]
async fn the_console_makes_no_database() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    for arguments in
        [["passwd", "admin", "--random"], ["token", "admin", "--scope=watch"], ["disable", "admin", "--"]]
    {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_gatehouse"));
        command
            .args(["user", "--data", data.to_str().unwrap()])
            .args(arguments)
            .env_remove("GATEHOUSE_CONFIG");
        let output = command.output().await.unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{arguments:?}");
        assert!(
            error.contains("no readable database in") && error.contains(data.to_str().unwrap()),
            "{error}"
        );
    }
    assert!(!data.exists());
}
