//! The command line: `check`, `probe`, `--help`, with their exit codes.

use std::process::Output;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::support::{camera, clip, within};
use gatehouse::demo::{DemoOptions, LoginScheme};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn run(arguments: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_gatehouse"));
    command.args(arguments).env_remove("GATEHOUSE_CONFIG").output().await.unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test]
async fn help_lists_commands_and_examples() {
    let output = run(&["--help"]).await;
    assert!(output.status.success());
    let text = out(&output);
    for word in
        ["serve", "check", "probe", "demo-camera", "--config", "--listen", "GATEHOUSE_LISTEN", "Examples"]
    {
        assert!(text.contains(word), "{word}");
    }
}

#[tokio::test]
async fn check_reports_all_problems() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("g.toml");
    std::fs::write(&file, "[sever]\n[[camera]]\nid = \"a\"\nurl = \"ftp://x\"\n").unwrap();
    let output = run(&["check", "--config", file.to_str().unwrap()]).await;
    assert_eq!(output.status.code(), Some(78), "EX_CONFIG, for which the unit does not restart");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("g.toml:1:2: sever is not known: did you mean \"server\"?"), "{text}");
    assert!(text.contains("g.toml:4:7: camera.url"), "{text}");
    std::fs::write(&file, "[[camera]]\nid = \"a\"\nurl = \"rtsp://x/1\"\n").unwrap();
    let output = run(&["check", "--config", file.to_str().unwrap()]).await;
    assert!(output.status.success());
    assert!(out(&output).contains("1 camera(s)"));
    assert!(out(&output).contains("media: UDP 0.0.0.0:8443, for everybody"), "{}", out(&output));
}

#[tokio::test]
async fn check_reads_standard_input_and_takes_the_file_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("g.toml");
    std::fs::write(&file, "[[camera]]\nid = \"a\"\nurl = \"rtsp://x/1\"\npassword_file = \"missing\"\n")
        .unwrap();
    let output = run(&["check", file.to_str().unwrap()]).await;
    assert_eq!(output.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&output.stderr).contains("missing cannot be read"));
    for arguments in [&["check", "-"][..], &["check", "--config", "-"]] {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_gatehouse"));
        command.args(arguments).stdin(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"[sever]\n").await.unwrap();
        let output = within("the end", child.wait_with_output()).await.unwrap();
        assert_eq!(output.status.code(), Some(78));
        assert!(
            String::from_utf8_lossy(&output.stderr).starts_with("standard input:1:2: sever is not known")
        );
    }
}

#[tokio::test]
async fn the_manual_and_completions_know_all_commands() {
    let folder = tempfile::tempdir().unwrap();
    assert!(run(&["man", folder.path().to_str().unwrap()]).await.status.success());
    assert!(folder.path().join("gatehouse-user-passwd.1").is_file());
    assert!(out(&run(&["man"]).await).contains(".TH gatehouse 1"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(out(&run(&["completions", shell]).await).contains("demo-camera"), "{shell}");
    }
}

#[tokio::test]
async fn probe_of_a_healthy_camera() {
    let login = Some(("u".to_owned(), "secret-pw".to_owned(), LoginScheme::Digest));
    let camera = camera(DemoOptions { login, ..DemoOptions::default() }).await;
    let url = camera.url().replace("rtsp://", "rtsp://u:secret-pw@");
    let output = run(&["probe", &url, "--json"]).await;
    let text = out(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(!text.contains("secret-pw"));
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["login"], "digest");
    assert_eq!(report["stream"]["info"]["width"], 1280);
    assert_eq!(report["stream"]["gop_frames"], 50);
    assert_eq!(report["tracks"][1]["codec"], "PCMU");
    assert!(report["round_trip_ms"].as_f64().unwrap() > 0.0);
    let words = out(&run(&["probe", &url]).await);
    assert!(words.contains("1280 × 720, Main profile") && words.contains("✔"), "{words}");
    // What it ends with is a section of the configuration.
    let section = words.split("For the configuration:").nth(1).unwrap();
    let parsed: toml::Table = section.parse().unwrap();
    assert_eq!(parsed["camera"][0]["username"].as_str(), Some("u"));
    assert!(parsed["camera"][0]["url"].as_str().unwrap().starts_with("rtsp://127.0.0.1:"), "{section}");
}

#[tokio::test]
async fn probe_of_cameras_with_problems() {
    let camera_b = camera(DemoOptions { clip: Some(clip("b-frames.h264")), ..DemoOptions::default() }).await;
    let output = run(&["probe", &camera_b.url()]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(out(&output).contains("B-frames"));
    let login = Some(("u".to_owned(), "p".to_owned(), LoginScheme::Basic));
    let locked = camera(DemoOptions { login, ..DemoOptions::default() }).await;
    let output = run(&["probe", &locked.url()]).await;
    assert_eq!(output.status.code(), Some(3));
    assert!(out(&output).contains("camera_login"), "{}", out(&output));
    assert_eq!(run(&["probe", "http://x/"]).await.status.code(), Some(3));
    assert_eq!(run(&["probe", "rtsp://127.0.0.1:1/x"]).await.status.code(), Some(3));
}

/// A camera whose answer to DESCRIBE is three gigabytes long.
async fn endless(mut connection: TcpStream, sent: Arc<AtomicU64>) -> std::io::Result<()> {
    let mut request = vec![0; 4096];
    for cseq in 1.. {
        let length = connection.read(&mut request).await?;
        let text = String::from_utf8_lossy(&request[..length]).into_owned();
        if !text.starts_with("DESCRIBE") {
            let answer = format!("RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\nPublic: DESCRIBE\r\n\r\n");
            connection.write_all(answer.as_bytes()).await?;
            continue;
        }
        let head = format!(
            "RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\nContent-Type: application/sdp\r\nContent-Length: 3000000000\r\n\r\n"
        );
        connection.write_all(head.as_bytes()).await?;
        let piece = vec![b'a'; 1 << 20];
        for _ in 0..2861 {
            connection.write_all(&piece).await?;
            sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endless_answer_does_not_fill_the_memory() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("rtsp://{}/x", listener.local_addr().unwrap());
    let sent = Arc::new(AtomicU64::new(0));
    let counted = sent.clone();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(endless(connection, counted.clone()));
        }
    });
    let output = within("the probe gives up", run(&["probe", &url])).await;
    assert_eq!(output.status.code(), Some(3));
    let text = out(&output) + &String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("an answer of 3000000000 bytes"), "{text}");
    assert!(sent.load(Ordering::Relaxed) < 1 << 26, "{sent:?} bytes were read");
}

/// A server as systemd runs it, and what it says on its notification socket.
struct Unit {
    child: tokio::process::Child,
    socket: tokio::net::UnixDatagram,
}

impl Unit {
    async fn start(folder: &std::path::Path) -> Self {
        let path = folder.join("notify");
        let socket = tokio::net::UnixDatagram::bind(&path).unwrap();
        let file = folder.join("g.toml");
        std::fs::write(&file, "[server]\nlisten = \"127.0.0.1:0\"\n").unwrap();
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_gatehouse"));
        command.args(["serve", "--config", file.to_str().unwrap()]);
        command.args(["--data", folder.join("data").to_str().unwrap()]);
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "400000");
        command.env("GATEHOUSE_MEDIA_LISTEN", "127.0.0.1").env_remove("WATCHDOG_PID");
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        Self { child: command.kill_on_drop(true).spawn().unwrap(), socket }
    }

    /// Waits for a line.
    async fn says(&self, line: &str) {
        let mut buffer = [0; 1024];
        loop {
            let length = within(line, self.socket.recv(&mut buffer)).await.unwrap();
            if std::str::from_utf8(&buffer[..length]).unwrap().lines().any(|said| said == line) {
                return;
            }
        }
    }

    async fn signal(&self, name: &str) {
        let pid = self.child.id().unwrap().to_string();
        let sent = tokio::process::Command::new("kill").args([name, &pid]).status().await.unwrap();
        assert!(sent.success());
    }
}

#[tokio::test]
async fn systemd_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut unit = Unit::start(folder.path()).await;
    unit.says("READY=1").await;
    unit.says("WATCHDOG=1").await;
    unit.says("WATCHDOG=1").await;
    unit.signal("-HUP").await;
    unit.says("RELOADING=1").await;
    unit.says("READY=1").await;
    for ignored in ["-USR1", "-USR2"] {
        unit.signal(ignored).await;
    }
    unit.says("WATCHDOG=1").await;
    // A second server on the same folder is told who is there.
    let data = folder.path().join("data");
    let second = run(&["serve", "--listen", "127.0.0.1:0", "--data", data.to_str().unwrap()]).await;
    let error = String::from_utf8(second.stderr).unwrap();
    assert!(error.contains("is in use by another server, process"), "{error}");
    unit.signal("-TERM").await;
    unit.says("STOPPING=1").await;
    assert!(within("the end", unit.child.wait()).await.unwrap().success());
    // Everything is in the one file.
    let copy = folder.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    std::fs::copy(data.join("gatehouse.db"), copy.join("gatehouse.db")).unwrap();
    let list = run(&["user", "list", "--data", copy.to_str().unwrap()]).await;
    assert!(out(&list).contains("admin"), "{}", String::from_utf8_lossy(&list.stderr));
}

/// What `journalctl --priority` and programs that block addresses rely on.
#[tokio::test]
async fn the_log_under_systemd_has_priorities_and_failed_logins() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("g.toml");
    let camera = "[[camera]]\nid = \"dead\"\nurl = \"rtsp://127.0.0.1:1/secret-path\"\non_demand = false\n";
    std::fs::write(&file, format!("[server]\nlisten = \"127.0.0.1:0\"\n{camera}")).unwrap();
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_gatehouse"));
    command.args([
        "serve",
        "--config",
        file.to_str().unwrap(),
        "--data",
        folder.path().join("d").to_str().unwrap(),
    ]);
    command.env("JOURNAL_STREAM", "8:1").env("GATEHOUSE_MEDIA_LISTEN", "127.0.0.1");
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let mut log = tokio::io::BufReader::new(child.stderr.take().unwrap()).lines();
    let mut lines: Vec<String> = Vec::new();
    let mut line = async |with: &str| loop {
        if let Some(line) = lines.iter().find(|line| line.contains(with)) {
            return line.clone();
        }
        let line = within(with, log.next_line()).await.unwrap().unwrap();
        assert!(!line.contains("secret-path"), "{line}");
        lines.push(line);
    };
    let started = line(" started version=").await;
    assert!(started.starts_with("<6> INFO"), "{started}");
    let port = started.rsplit(':').next().unwrap().trim().to_owned();
    let failed = line("source failed").await;
    assert!(failed.starts_with("<4> WARN") && failed.contains("address=\"rtsp://127.0.0.1:1\""), "{failed}");
    let login = crate::support::http().post(format!("http://127.0.0.1:{port}/api/login"));
    let body = r#"{"name": "admin", "password": "violet-42-kettle"}"#;
    let response = login.header("Content-Type", "application/json").body(body).send().await.unwrap();
    assert_eq!(response.status(), 401);
    let failed = line("login failed").await;
    assert!(failed.starts_with("<4> WARN") && failed.contains("login failed address=127.0.0.1 "), "{failed}");
}

/// A certificate that browsers would refuse is a problem of the configuration, before anybody sees it.
#[tokio::test]
async fn check_reads_the_certificate_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let certificate = |year: i32| {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(year, 1, 1);
        params.not_after = rcgen::date_time_ymd(year + 5, 1, 1);
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    };
    let (good, old) = (certificate(2025), certificate(2015));
    std::fs::write(path("g.toml"), "[tls]\nmode = \"files\"\ncert = \"c.pem\"\nkey = \"k.pem\"\n").unwrap();
    let table = [
        (None, Some(&good.1), "c.pem"),
        (Some(&good.0), None, "k.pem"),
        (Some(&good.0), Some(&old.1), "key"),
        (Some(&old.0), Some(&old.1), "the certificate has expired on"),
        (Some(&good.0), Some(&good.1), ""),
    ];
    for (cert, key, expected) in table {
        for (name, content) in [("c.pem", cert), ("k.pem", key)] {
            let _ = std::fs::remove_file(path(name));
            if let Some(content) = content {
                std::fs::write(path(name), content).unwrap();
            }
        }
        let output = run(&["check", "--config", path("g.toml").to_str().unwrap()]).await;
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            output.status.code(),
            Some(if expected.is_empty() { 0 } else { 78 }),
            "{expected}: {error}"
        );
        assert!(error.to_lowercase().contains(expected), "{expected}: {error}");
    }
}
