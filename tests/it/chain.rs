//! One Gatehouse feeding another: a WHEP address as a camera.

use crate::support::{camera, camera_toml, is_key_start, server};
use gatehouse::demo::DemoOptions;
use gatehouse::streams::packet::Track;
use gatehouse::streams::status::State;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_gatehouse_feeds_another() {
    let camera = camera(DemoOptions::default()).await;
    let near = server(&camera_toml("c", &camera.url(), "")).await;
    let url = near.url("/whep/camera/c").replace("http:", "whep:");
    let far = server(&camera_toml("relay", &url, &token(&near))).await;
    let mut viewer = far.watch("relay").await;
    viewer.video_where(|packet| is_key_start(&packet.payload)).await;
    let mut audio = 0;
    while audio < 10 {
        audio += u32::from(viewer.packet().await.track == Track::Audio);
    }
    let status = far.status("relay");
    assert_eq!(status.state, State::Live);
    assert_eq!(status.video.as_ref().unwrap().info.as_ref().unwrap().width, 1280);
    assert_eq!(near.status("c").viewers, 1);
}

#[tokio::test]
async fn a_whep_address_that_does_not_exist() {
    let near = server("").await;
    let url = near.url("/whep/camera/none").replace("http:", "whep:");
    let far = server(&camera_toml("relay", &url, &token(&near))).await;
    let status = far.wait_for("relay", "failed", |status| status.state == State::Failed).await;
    assert_eq!(status.reason.as_ref().unwrap().code, "camera_path");
}

fn token(near: &crate::support::Server) -> String {
    format!("token = \"{}\"", near.token)
}

#[tokio::test]
async fn a_whep_address_without_a_token() {
    let near = server("").await;
    let url = near.url("/whep/camera/demo").replace("http:", "whep:");
    let far = server(&camera_toml("relay", &url, "")).await;
    let status = far.wait_for("relay", "failed", |status| status.state == State::Failed).await;
    assert_eq!(status.reason.as_ref().unwrap().code, "camera_login");
}
