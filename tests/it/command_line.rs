//! The command line: `check`, `probe`, `--help`, with their exit codes.

use std::process::Output;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::support::{camera, clip, within};
use gatehouse::streams::demo::{DemoOptions, LoginScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
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
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("g.toml:1:2: sever is not known: did you mean \"server\"?"), "{text}");
    assert!(text.contains("g.toml:4:7: camera.url"), "{text}");
    std::fs::write(&file, "[[camera]]\nid = \"a\"\nurl = \"rtsp://x/1\"\n").unwrap();
    let output = run(&["check", "--config", file.to_str().unwrap()]).await;
    assert!(output.status.success());
    assert!(out(&output).contains("1 camera(s)"));
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

/// In a process of its own, since the bound is one of the process.
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
    assert!(text.contains("takes more than 256 MiB"), "{text}");
    assert!(sent.load(Ordering::Relaxed) < 1 << 30, "{sent:?} bytes were read");
}
