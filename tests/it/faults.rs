//! Cameras with the faults of real ones: what the status says, and that viewers stay connected until recovery.

use std::time::{Duration, Instant};

use crate::support::{camera, camera_toml, clip, is_key_start, server, until};
use gatehouse::demo::{DemoCamera, DemoOptions, Faults, LoginScheme};
use gatehouse::secret::Secret;
use gatehouse::streams::packet::{MAX_PAYLOAD, Track};
use gatehouse::streams::status::State;

fn code(status: &gatehouse::streams::status::StreamStatus) -> &'static str {
    status.reason.as_ref().map_or("", |reason| reason.code)
}

#[tokio::test]
async fn both_login_schemes_work() {
    for scheme in [LoginScheme::Basic, LoginScheme::Digest] {
        let login = Some(("viewer".to_owned(), "p/w:ü".to_owned(), scheme));
        let camera = camera(DemoOptions { login, ..DemoOptions::default() }).await;
        let more = "username = \"viewer\"\npassword = \"p/w:ü\"";
        let server = server(&camera_toml("c", &camera.url(), more)).await;
        server.wait_for("c", "live", |status| status.state == State::Live).await;
    }
}

#[tokio::test]
async fn a_wrong_password_is_reported_and_retried_slowly() {
    let login = Some(("viewer".to_owned(), "right".to_owned(), LoginScheme::Digest));
    let camera = camera(DemoOptions { login, ..DemoOptions::default() }).await;
    let more = "username = \"viewer\"\npassword = \"hunter2-wrong\"";
    let server = server(&camera_toml("c", &camera.url(), more)).await;
    let status = server.wait_for("c", "failed", |status| status.state == State::Failed).await;
    assert_eq!(code(&status), "camera_login");
    let wait = status.retry_at.unwrap().duration_since(std::time::SystemTime::now()).unwrap();
    assert!(wait > Duration::from_secs(40), "{wait:?}");
    let api = server.http().get(server.url("/api/cameras")).send().await.unwrap().text().await.unwrap();
    assert!(!api.contains("hunter2") && !api.contains("rtsp:"), "{api}");
}

#[tokio::test]
async fn the_status_of_a_live_camera() {
    let camera = camera(DemoOptions::default()).await;
    let server = server(&camera_toml("c", &camera.url(), "")).await;
    let measured = |status: &gatehouse::streams::status::StreamStatus| {
        status.video.as_ref().is_some_and(|video| video.measured.gop_frames.is_some())
    };
    let status = server.wait_for("c", "two key frames", measured).await;
    let video = status.video.as_ref().unwrap();
    let info = video.info.as_ref().unwrap();
    assert_eq!((info.width, info.height, info.profile), (1280, 720, "Main"));
    assert_eq!(video.measured.gop_frames, Some(50));
    assert!((20.0..30.0).contains(&video.measured.fps), "{video:?}");
    assert_eq!(status.audio.as_ref().unwrap().codec, "PCMU");
    assert!(!video.b_frames && status.problem.is_none());
}

#[tokio::test]
async fn a_stalled_camera_is_detected() {
    let faults = Faults { silent_after: Some(Duration::from_millis(500)), ..Faults::default() };
    let camera = camera(DemoOptions { faults, ..DemoOptions::default() }).await;
    let server = server(&camera_toml("c", &camera.url(), "")).await;
    server.wait_for("c", "the stall is detected", |status| code(status) == "camera_silent").await;
}

#[tokio::test]
async fn sound_does_not_keep_a_frozen_picture_alive() {
    let faults = Faults { freeze_after: Some(Duration::from_millis(500)), ..Faults::default() };
    let camera = camera(DemoOptions { faults, ..DemoOptions::default() }).await;
    let server = server(&camera_toml("c", &camera.url(), "on_demand = false")).await;
    server.wait_for("c", "it is live", |status| status.state == State::Live).await;
    server.wait_for("c", "the stall is detected", |status| code(status) == "camera_silent").await;
    // It reconnects, and the picture is back for half a second.
    server.wait_for("c", "live again", |status| status.state == State::Live).await;
}

#[tokio::test]
async fn a_camera_whose_sound_stops_stays_live_and_says_so() {
    let faults = Faults { mute_after: Some(Duration::from_millis(500)), ..Faults::default() };
    let camera = camera(DemoOptions { faults, ..DemoOptions::default() }).await;
    let server = server(&camera_toml("c", &camera.url(), "on_demand = false")).await;
    let audio =
        |status: &gatehouse::streams::status::StreamStatus| status.audio.as_ref().map(|audio| audio.silent);
    server.wait_for("c", "there is sound", |status| audio(status) == Some(false)).await;
    server.wait_for("c", "the sound is missed", |status| audio(status) == Some(true)).await;
    assert_eq!(server.status("c").state, State::Live);
}

#[tokio::test]
async fn garbage_costs_only_itself() {
    let faults = Faults { garbage_after: Some(Duration::from_millis(300)), ..Faults::default() };
    let camera = camera(DemoOptions { faults, ..DemoOptions::default() }).await;
    let server = server(&camera_toml("c", &camera.url(), "on_demand = false")).await;
    let began = server.wait_for("c", "live", |status| status.state == State::Live).await.since;
    let mut viewer = server.watch("c").await;
    for _ in 0..300 {
        viewer.video().await;
    }
    let status = server.status("c");
    assert_eq!((status.state, status.since), (State::Live, began), "the same session");
}

#[tokio::test]
async fn a_wrong_path_is_reported() {
    // A camera answers 404 for a wrong path.
    let camera = camera(DemoOptions::default()).await;
    let wrong = camera.url().replace("/demo", "/other");
    let server = server(&camera_toml("c", &wrong, "")).await;
    let status = server.wait_for("c", "failed", |status| status.state == State::Failed).await;
    assert_eq!(code(&status), "camera_path");
}

/// On the wall and in Administration a broken camera must not look ready while nobody watches it.
#[tokio::test]
async fn a_camera_that_failed_keeps_saying_so() {
    let camera = camera(DemoOptions::default()).await;
    let wrong = camera.url().replace("/demo", "/other");
    let server = server(&camera_toml("c", &wrong, "idle_timeout = \"0s\"")).await;
    let url = url::Url::parse(&server.url("/whep/camera/c")).unwrap();
    let token = Secret::new(server.token.clone());
    assert!(server.watch_with(&url, &token).await.is_err());
    let status = server.wait_for("c", "idle", |status| status.state == State::Idle).await;
    assert_eq!(code(&status), "camera_path");
}

#[tokio::test]
async fn cameras_that_nobody_watches_are_looked_after() {
    let camera = camera(DemoOptions::default()).await;
    let wrong = camera.url().replace("/demo", "/other");
    let cameras = camera_toml("wrong", &wrong, "") + &camera_toml("right", &camera.url(), "");
    let server = server(&format!("{cameras}[media]\ncheck_interval = \"1s\"\n")).await;
    until("the broken one is noticed", || (code(&server.status("wrong")) == "camera_path").then_some(()))
        .await;
    until("the sound of the other is known", || server.status("right").audio.clone()).await;
    assert_eq!(server.status("wrong").state, State::Idle, "nobody watches it");
    let right = server.status("right");
    assert_eq!((right.state, right.reason.clone(), right.video.clone()), (State::Idle, None, None));
    let (address, url) = (camera.address(), camera.url());
    camera.stop().await;
    until("it is gone", || (code(&server.status("right")) == "camera_unreachable").then_some(())).await;
    let _camera = again(address).await;
    until(&format!("{url} is there again"), || server.status("right").reason.is_none().then_some(())).await;
}

/// A camera that was stopped is started again on its port.
async fn again(address: std::net::SocketAddr) -> DemoCamera {
    let start = Instant::now();
    loop {
        match DemoCamera::start(address, DemoOptions::default()).await {
            Ok(camera) => return camera,
            Err(error) => assert!(start.elapsed() < Duration::from_secs(10), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn who_waits_sees_a_camera_that_has_restarted_at_once() {
    let camera = camera(DemoOptions::default()).await;
    let address = camera.address();
    let server = server(&camera_toml("c", &camera.url(), "")).await;
    camera.stop().await;
    let stream =
        server.gatehouse.cameras().stream(&gatehouse::names::StreamName::camera("c").unwrap()).unwrap();
    let interest = stream.want().await;
    let mut attempts = std::collections::BTreeSet::new();
    until("several attempts", || {
        attempts.extend(server.status("c").retry_at);
        (attempts.len() == 6).then_some(())
    })
    .await;
    // It does not double any more.
    let (last, before) = (attempts.pop_last().unwrap(), attempts.pop_last().unwrap());
    let pause = last.duration_since(before).unwrap();
    assert!(pause < Duration::from_secs(4), "{pause:?}");
    let _camera = again(address).await;
    server.wait_for("c", "live again", |status| status.state == State::Live).await;
    drop(interest);
}

#[tokio::test]
async fn useless_time_stamps_are_replaced_by_the_time_of_arrival() {
    let faults = Faults { frozen_clock: true, ..Faults::default() };
    let camera = camera(DemoOptions { faults, ..DemoOptions::default() }).await;
    let server = server(&camera_toml("c", &camera.url(), "on_demand = false")).await;
    let noted = |status: &gatehouse::streams::status::StreamStatus| {
        status.notes.iter().any(|note| note.code == "timed_by_arrival")
    };
    let status = server.wait_for("c", "it is noticed", noted).await;
    assert_eq!(status.state, State::Live);
    let frames = |status: &gatehouse::streams::status::StreamStatus| {
        status.video.as_ref().is_some_and(|video| (20.0..30.0).contains(&video.measured.fps))
    };
    server.wait_for("c", "its frames are counted", frames).await;
    let mut viewer = server.watch("c").await;
    let first = viewer.video_where(|packet| is_key_start(&packet.payload)).await.timestamp;
    let next = viewer
        .video_where(|packet| is_key_start(&packet.payload) && packet.timestamp != first)
        .await
        .timestamp;
    let ticks = next.wrapping_sub(first);
    assert!((100_000..300_000).contains(&ticks), "from key frame to key frame 2 s: {ticks}");
}

#[tokio::test]
async fn a_camera_that_sends_nothing_over_tcp_is_asked_for_udp() {
    let faults = Faults { silent_over_tcp: true, ..Faults::default() };
    let camera = camera(DemoOptions { faults, ..DemoOptions::default() }).await;
    let server = server(&camera_toml("c", &camera.url(), "on_demand = false")).await;
    server.wait_for("c", "live over UDP", |status| status.state == State::Live).await;
}

#[tokio::test]
async fn large_packets_are_split() {
    let camera = camera(DemoOptions { mtu: 60_000, ..DemoOptions::default() }).await;
    let server = server(&camera_toml("c", &camera.url(), "")).await;
    let mut viewer = server.watch("c").await;
    let mut key_frames = 0;
    while key_frames < 2 {
        let packet = viewer.video().await;
        assert!(packet.payload.len() <= MAX_PAYLOAD);
        key_frames += u32::from(is_key_start(&packet.payload));
    }
    let largest = server.status("c").video.as_ref().unwrap().measured.largest_payload;
    assert!(largest > 10_000, "the camera's own packets are large: {largest}");
}

#[tokio::test]
async fn parameter_sets_need_not_be_in_the_sdp() {
    let camera = camera(DemoOptions { sprop: false, audio: false, ..DemoOptions::default() }).await;
    let server = server(&camera_toml("c", &camera.url(), "")).await;
    let mut viewer = server.watch("c").await;
    viewer.video_where(|packet| is_key_start(&packet.payload)).await;
    assert_eq!(server.status("c").audio, None);
}

#[tokio::test]
async fn udp_works_too() {
    let camera = camera(DemoOptions::default()).await;
    let server = server(&camera_toml("c", &camera.url(), "transport = \"udp\"")).await;
    let mut viewer = server.watch("c").await;
    viewer.video_where(|packet| is_key_start(&packet.payload)).await;
}

#[tokio::test]
async fn a_lost_packet_is_a_gap() {
    let faults = Faults { drop_every: Some(40), ..Faults::default() };
    let camera = camera(DemoOptions { faults, audio: false, ..DemoOptions::default() }).await;
    let server = server(&camera_toml("c", &camera.url(), "")).await;
    let mut viewer = server.watch("c").await;
    viewer.video_where(|packet| packet.lost > 0).await;
    // The status is updated every second.
    let lost = || server.status("c").video.as_ref().map(|video| video.measured.lost_packets);
    until("the loss is counted", || lost().filter(|lost| *lost > 0)).await;
}

#[tokio::test]
async fn a_jump_of_the_cameras_clock_is_hidden() {
    let faults = Faults { jump_after: Some(Duration::from_secs(1)), ..Faults::default() };
    let camera = camera(DemoOptions { faults, audio: false, ..DemoOptions::default() }).await;
    let server = server(&camera_toml("c", &camera.url(), "")).await;
    let mut viewer = server.watch("c").await;
    let start = Instant::now();
    let mut last = viewer.video().await.timestamp;
    while start.elapsed() < Duration::from_millis(2500) {
        let timestamp = viewer.video().await.timestamp;
        let step = timestamp.wrapping_sub(last) as i32;
        assert!((0..90_000 * 2).contains(&step), "{step}");
        last = timestamp;
    }
}

#[tokio::test]
async fn a_new_resolution_in_mid_stream() {
    let switch = Some((Duration::from_secs(1), clip("red.h264")));
    let camera =
        camera(DemoOptions { faults: Faults { switch, ..Faults::default() }, ..DemoOptions::default() })
            .await;
    let server = server(&camera_toml("c", &camera.url(), "")).await;
    let mut viewer = server.watch("c").await;
    let old = viewer.video_where(|packet| is_key_start(&packet.payload)).await;
    let new =
        viewer.video_where(|packet| is_key_start(&packet.payload) && packet.payload != old.payload).await;
    assert!(new.payload.len() < MAX_PAYLOAD);
    let width =
        || server.status("c").video.as_ref().and_then(|video| video.info.as_ref().map(|info| info.width));
    until("the status has the new size", || width().filter(|width| *width == 320)).await;
}

#[tokio::test]
async fn viewers_outlive_the_camera() {
    let first = camera(DemoOptions::default()).await;
    let address = first.address();
    let server = server(&camera_toml("c", &first.url(), "")).await;
    let mut viewer = server.watch("c").await;
    let before = viewer.video().await;
    first.stop().await;
    server.wait_for("c", "the camera is gone", |status| status.state == State::Retrying).await;
    let second =
        DemoCamera::start(address, DemoOptions { clip: Some(clip("green.h264")), ..DemoOptions::default() });
    let _second = second.await.unwrap();
    server.wait_for("c", "the camera is back", |status| status.state == State::Live).await;
    // The same connection, different parameter sets, continuous timestamps.
    let mut last = before.timestamp;
    loop {
        let packet = viewer.video().await;
        let step = packet.timestamp.wrapping_sub(last) as i32;
        assert!((0..90_000 * 40).contains(&step), "{step}");
        last = packet.timestamp;
        if is_key_start(&packet.payload) && packet.payload.len() < 60 && packet.payload[4] == 0x42 {
            break;
        }
    }
    assert_eq!(server.gatehouse.engine().sessions(), 1);
}

#[tokio::test]
async fn audio_is_delivered() {
    let camera = camera(DemoOptions::default()).await;
    let server = server(&camera_toml("c", &camera.url(), "")).await;
    let mut viewer = server.watch("c").await;
    let mut last = None;
    for _ in 0..50 {
        let packet = loop {
            let packet = viewer.packet().await;
            if packet.track == Track::Audio {
                break packet;
            }
        };
        assert_eq!(packet.payload.len(), 160);
        if let Some(last) = last {
            assert_eq!(packet.timestamp.wrapping_sub(last) % 160, 0);
        }
        last = Some(packet.timestamp);
    }
}
