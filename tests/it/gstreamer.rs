//! RTSP against an independent implementation: GStreamer's server instead of ours. Ignored unless asked for
//! (`--include-ignored`), which the test command does after installing it.

use crate::support::{camera_toml, clip, is_key_start, server};
use gatehouse::streams::packet::{AudioCodec, Track};
use tokio::io::{AsyncBufReadExt, BufReader};

/// The server and its port.
async fn gstreamer() -> (tokio::process::Child, String) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cameras/gstreamer_server.py");
    let mut child = tokio::process::Command::new("/usr/bin/python3")
        .arg(script)
        .arg(clip("slices-aud.h264"))
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let port = crate::support::within("GStreamer's port", lines.next_line()).await.unwrap().unwrap();
    (child, port)
}

#[tokio::test]
#[ignore = "needs Debian's GStreamer packages: see tests/run.sh"]
async fn gstreamers_rtsp_server_is_understood() {
    let (_child, port) = gstreamer().await;
    for transport in ["tcp", "udp"] {
        let more = format!("transport = \"{transport}\"");
        let server = server(&camera_toml("g", &format!("rtsp://127.0.0.1:{port}/test"), &more)).await;
        let mut viewer = server.watch("g").await;
        viewer.video_where(|packet| is_key_start(&packet.payload)).await;
        let status = server.status("g");
        let info = status.video.as_ref().unwrap().info.as_ref().unwrap();
        assert_eq!((info.width, info.profile), (640, "High"));
    }
}

/// Opus is passed on as it is, since every browser plays it.
#[tokio::test]
#[ignore = "needs Debian's GStreamer packages: see tests/run.sh"]
async fn the_opus_of_a_camera_is_passed_on() {
    let (_child, port) = gstreamer().await;
    let server = server(&camera_toml("g", &format!("rtsp://127.0.0.1:{port}/opus"), "")).await;
    let mut viewer = server.watch("g").await;
    let sound = loop {
        let packet = viewer.packet().await;
        if packet.track == Track::Audio {
            break packet;
        }
    };
    assert!(!sound.payload.is_empty());
    let audio = server.status("g").audio.clone().unwrap();
    assert_eq!((audio.codec.as_str(), audio.playable, audio.passed), ("OPUS", true, Some(AudioCodec::Opus)));
}
