//! Plants passwords everywhere they can be configured, and checks that they appear nowhere: not in any answer, not in
//! the log at its most verbose level, not in `Debug` output.

use std::path::Path;
use std::process::Stdio;

use crate::support::{bearer, camera, http};
use gatehouse::config::{Config, Overrides};
use gatehouse::demo::{DemoOptions, LoginScheme};
use gatehouse::http::routes;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

const PLANTED: &str = "PLANTED-xyzzy-4711";

fn check(place: &str, text: &str) {
    // Basic authentication is only an encoding: `user:PLANTED…` in base64.
    for form in [PLANTED, "UExBTlRFRC14eXp6eS00NzEx", "dTpQTEFOVEVELXh5enp5LTQ3MTE"] {
        assert!(!text.contains(form), "{place} shows a secret:\n{text}");
    }
}

fn configuration(url: &str, port: u16) -> String {
    let inside = url.replace("rtsp://", &format!("rtsp://u:{PLANTED}@"));
    format!(
        "[server]\nlisten = \"127.0.0.1:{port}\"\nlog = \"info,gatehouse=trace,retina=debug,axum=trace,hyper=debug\"\n\
         [[media.ice_server]]\nurls = [\"turn:t.example\"]\nusername = \"u\"\ncredential = \"{PLANTED}-turn\"\n\
         [[camera]]\nid = \"inside\"\nurl = \"{inside}\"\non_demand = false\n\
         [[camera]]\nid = \"gone\"\nurl = \"rtsp://u:{PLANTED}@127.0.0.1:1/x\"\non_demand = false\n\
         [[camera]]\nid = \"beside\"\nurl = \"{url}\"\nusername = \"u\"\npassword = \"{PLANTED}-wrong\"\non_demand = false\n\
         [[camera]]\nid = \"far\"\nurl = \"whep://127.0.0.1:1/x\"\ntoken = \"{PLANTED}\"\non_demand = false\n"
    )
}

#[test]
fn debug_shows_no_secret() {
    let text = configuration("rtsp://127.0.0.1:1/x", 0);
    let mut overrides = Overrides::default();
    overrides.environment.insert("GATEHOUSE_ADMIN_PASSWORD".into(), PLANTED.into());
    let config = Config::parse(&text, "test", Path::new("."), &overrides).unwrap();
    check("the configuration", &format!("{config:?} {config:#?} {overrides:?}"));
    let broken = text.replace("rtsp://u", "rtps://u").replace("u = 1", "");
    let problems = Config::parse(&broken, "test", Path::new("."), &overrides).unwrap_err();
    check("its problems", &problems.to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_shows_a_secret() {
    let login = Some(("u".to_owned(), PLANTED.to_owned(), LoginScheme::Basic));
    let camera = camera(DemoOptions { login, ..DemoOptions::default() }).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("g.toml");
    std::fs::write(&file, configuration(&camera.url(), 0)).unwrap();
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_gatehouse"));
    command.args(["--config", file.to_str().unwrap(), "--data", folder.path().join("d").to_str().unwrap()]);
    command.env("GATEHOUSE_ADMIN_PASSWORD", format!("{PLANTED}-admin")).env("NO_COLOR", "1");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut console = String::new();
    let base = loop {
        let line = crate::support::within("it starts", lines.next_line()).await.unwrap().unwrap();
        console += &line;
        if let Some((_, rest)) = line.split_once("http://localhost:") {
            break format!("http://localhost:{}", rest.split('/').next().unwrap());
        }
    };
    let data = folder.path().join("d");
    let token = tokio::process::Command::new(env!("CARGO_BIN_EXE_gatehouse"))
        .args([
            "user",
            "--data",
            data.to_str().unwrap(),
            "token",
            "admin",
            "--scope",
            "watch",
            "--scope",
            "manage",
        ])
        .output()
        .await
        .unwrap();
    let token = String::from_utf8(token.stdout).unwrap().trim().to_owned();
    let admin = bearer(&token);
    let json = |method: reqwest::Method, path: &str, body: serde_json::Value| {
        let request =
            admin.request(method, format!("{base}{path}")).header("content-type", "application/json");
        request.body(body.to_string()).send()
    };
    // Planted by the API as well, in valid and in invalid requests.
    let post = reqwest::Method::POST;
    let camera_body = json!({ "id": "page", "name": "p", "url": camera.url().replace("rtsp://", &format!("rtsp://u:{PLANTED}@")) });
    assert_eq!(json(post.clone(), "/api/admin/cameras", camera_body).await.unwrap().status(), 201);
    let mut add = tokio::process::Command::new(env!("CARGO_BIN_EXE_gatehouse"));
    add.args(["user", "--data", data.to_str().unwrap(), "add", "anna"]).stdin(Stdio::piped());
    let mut add = add.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    add.stdin.take().unwrap().write_all(format!("{PLANTED}-anna\n").as_bytes()).await.unwrap();
    let added = add.wait_with_output().await.unwrap();
    assert!(added.status.success());
    check("the console", &format!("{added:?}"));
    for (path, body) in [
        ("/api/admin/users", json!({ "name": "x", "role": PLANTED, "password": PLANTED })),
        ("/api/admin/users", json!({ "name": "y y", "role": "member", "password": PLANTED })),
        ("/api/admin/cameras", json!({ "id": "z", "name": "z", "url": format!("rtps://u:{PLANTED}@h/") })),
        ("/api/admin/probe", json!({ "name": "z", "url": format!("rtsp://u:{PLANTED}@127.0.0.1:1/") })),
        ("/api/login", json!({ "name": format!("admin {PLANTED}"), "password": PLANTED })),
        ("/api/login", json!({ "name": "admin", "password": PLANTED })),
        ("/api/login", json!({ "name": "anna", "password": format!("{PLANTED}-anna") })),
    ] {
        let response = json(post.clone(), path, body).await.unwrap();
        let headers = format!("{:?}", response.headers());
        check(path, &(headers + &response.text().await.unwrap()));
    }
    // Every readable resource. Pages need the TURN password, so it is not planted in full.
    for route in routes::all().iter().filter(|route| route.methods.contains(&reqwest::Method::GET)) {
        let path = route
            .path
            .replace("{*stream}", "camera/inside")
            .replace("{id}", "inside")
            .replace("{name}", "anna");
        for client in [&admin, &http()] {
            let response = client.get(format!("{base}{path}")).send().await.unwrap();
            let headers = format!("{:?}", response.headers());
            check(&path, &(headers + &response.text().await.unwrap_or_default()));
        }
    }
    for page in ["/", "/login", "/account", "/admin", "/trust", "/js/api.js"] {
        check(page, &http().get(format!("{base}{page}")).send().await.unwrap().text().await.unwrap());
    }
    // No clean shutdown is needed: only the log so far is checked.
    child.start_kill().unwrap();
    let output = child.wait_with_output().await.unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(log.contains("DEBUG") || log.contains("TRACE"), "the log is verbose: {log}");
    check("the console", &console);
    check("the log", &log);
}
