//! Many viewers on one port: joining, leaving, and cleaning up after them.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use crate::attacker;
use crate::support::{camera, camera_toml, is_key_start, server, server_on, until};
use gatehouse::demo::DemoOptions;
use gatehouse::streams::status::State;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_viewers_share_one_camera_and_one_port() {
    let camera = camera(DemoOptions::default()).await;
    let server = server(&camera_toml("c", &camera.url(), "idle_timeout = \"1s\"")).await;
    let watching = (0..20).map(|_| server.watch("c"));
    let mut viewers = futures::future::join_all(watching).await;
    for viewer in &mut viewers {
        viewer.video_where(|packet| is_key_start(&packet.payload)).await;
        for _ in 0..20 {
            viewer.video().await;
        }
    }
    let count = || Some(server.status("c").viewers).filter(|count| *count == 20);
    until("the API counts twenty viewers", count).await;
    drop(viewers);
    until("all sessions are gone", || (server.gatehouse.engine().sessions() == 0).then_some(())).await;
    until("the camera is disconnected", || (server.status("c").state == State::Idle).then_some(())).await;
    assert_eq!(server.status("c").viewers, 0);
}

#[tokio::test]
async fn a_viewer_begins_with_a_key_frame_in_mid_gop() {
    let camera = camera(DemoOptions::default()).await;
    let server = server(&camera_toml("c", &camera.url(), "")).await;
    let mut first = server.watch("c").await;
    first.video_where(|packet| is_key_start(&packet.payload)).await;
    // Join in the middle of the GOP.
    let mut frames = 0;
    while frames < 20 {
        frames += u32::from(first.video().await.marker);
    }
    let start = Instant::now();
    let mut second = server.watch("c").await;
    let packet = second.video().await;
    assert!(is_key_start(&packet.payload), "it does not wait for the next key frame");
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    // …and gets all packets since then, without a gap.
    for _ in 0..60 {
        assert_eq!(second.video().await.lost, 0);
    }
}

#[tokio::test]
async fn an_always_on_camera_needs_no_viewer() {
    let camera = camera(DemoOptions::default()).await;
    let server = server(&camera_toml("c", &camera.url(), "on_demand = false")).await;
    until("live without a viewer", || (server.status("c").state == State::Live).then_some(())).await;
}

#[tokio::test]
async fn plain_stun_is_answered_with_the_own_address() {
    let server = server("").await;
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let request = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat();
    let answer = tokio::task::spawn_blocking(move || {
        let mut buffer = [0; 200];
        socket.send_to(&request, server.gatehouse.address()).unwrap();
        let (length, _) = socket.recv_from(&mut buffer).unwrap();
        (buffer[..length].to_vec(), socket.local_addr().unwrap().port())
    });
    let (answer, port) = answer.await.unwrap();
    assert_eq!(answer[..2], [1, 1]);
    assert_eq!(answer[8..20], [7; 12]);
    // XOR-MAPPED-ADDRESS (RFC 8489 §14.2): the port is masked with the cookie's upper half.
    let at = answer.windows(2).position(|pair| pair == [0, 0x20]).unwrap();
    let masked = u16::from_be_bytes([answer[at + 6], answer[at + 7]]);
    assert_eq!(masked ^ 0x2112, port);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_that_fills_the_queues_changes_nothing() {
    let server = server("").await;
    let mut viewer = server.watch("demo").await;
    viewer.video().await;
    let offer = attacker::offer("active", &["AB"; 32].join(":"), "");
    let session = attacker::post(&server.url(""), &server.http(), "camera/demo", offer).await.unwrap();
    let engine = server.gatehouse.engine().clone();
    let flood = tokio::task::spawn_blocking(move || {
        let socket = attacker::socket();
        let checks: Vec<_> = (0..64).map(|_| session.check(false)).collect();
        let begun = Instant::now();
        for seed in 0u32.. {
            let length = (seed.wrapping_mul(7919) % 300) as usize;
            let rubbish: Vec<u8> =
                (0..length).map(|i| (seed.wrapping_mul(i as u32 + 31) >> 3) as u8).collect();
            let _ = socket.send_to(&rubbish, session.server);
            for check in &checks {
                let _ = socket.send_to(check, session.server);
            }
            if engine.dropped_datagrams() > 1000 {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "{} dropped", engine.dropped_datagrams());
        }
    });
    for _ in 0..30 {
        assert_eq!(viewer.video().await.lost, 0);
    }
    flood.await.unwrap();
    for _ in 0..30 {
        assert_eq!(viewer.video().await.lost, 0);
    }
}

#[tokio::test]
async fn removing_a_camera_disconnects_its_viewers() {
    let camera = camera(DemoOptions::default()).await;
    let server = server(&camera_toml("c", &camera.url(), "")).await;
    let mut viewer = server.watch("c").await;
    viewer.video().await;
    let overrides = gatehouse::config::Overrides::default();
    let empty = gatehouse::config::Config::parse("", "test", std::path::Path::new("."), &overrides).unwrap();
    server.gatehouse.cameras().apply(&empty).await.unwrap();
    assert!(viewer.ended().await);
    until("its session is gone", || (server.gatehouse.engine().sessions() == 0).then_some(())).await;
}

#[tokio::test]
#[ignore = "needs IPv6 on the loopback interface"]
async fn ipv6_works_too() {
    let server = server_on("[::1]:0", "").await;
    let mut viewer = server.watch("demo").await;
    viewer.video_where(|packet| is_key_start(&packet.payload)).await;
}

#[tokio::test]
async fn a_wildcard_address_serves_loopback() {
    let server = server_on("0.0.0.0:0", "").await;
    let port = server.gatehouse.address().port();
    let url = url::Url::parse(&format!("http://127.0.0.1:{port}/whep/camera/demo")).unwrap();
    let token = gatehouse::secret::Secret::new(server.token.as_str());
    assert!(server.watch_with(&url, &token).await.is_ok());
}
