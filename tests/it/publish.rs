//! Publishing by WHIP: media reaches viewers; who may publish; several publishers of one stream; the end.

use std::time::Duration;

use gatehouse::accounts::permissions::{Role, Scopes};
use gatehouse::names::StreamName;
use gatehouse::secret::Secret;
use gatehouse::streams::packet::{Track, VideoCodec};
use gatehouse::streams::status::State;
use serde_json::json;
use url::Url;

use crate::publisher::{Codec, Publisher};
use crate::support::{Server, bearer, camera, is_key_start, offer, server, until, within};
use gatehouse::demo::DemoOptions;
use gatehouse::streams::source::{Arrival, SourceSpec, TlsTrust, Transport};

const STAGE: &str = "[[camera]]\nid = \"stage\"\nurl = \"whip:\"\n";

async fn token(server: &Server, name: &str, scopes: Scopes) -> reqwest::Client {
    let accounts = server.gatehouse.accounts();
    bearer(accounts.add_token(name, "obs", scopes, None).await.unwrap().expose())
}

fn publish() -> Scopes {
    Scopes { publish: true, ..Scopes::default() }
}

/// Sends numbered VP8 frames, with a key frame every `gop`.
async fn play_vp8(publisher: &mut Publisher, frames: u32, gop: u32) {
    for frame in 0..frames {
        let payload = [0x10, u8::from(frame % gop != 0), frame as u8];
        publisher.send(frame * 3000, true, &payload).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn video_and_audio_of_a_publisher_reach_viewers() {
    let server = server(STAGE).await;
    let obs = token(&server, "admin", publish()).await;
    let mut publisher = Publisher::start(&server, &obs, "camera/stage", Codec::Vp8).await.unwrap();
    publisher.connected().await;
    play_vp8(&mut publisher, 20, 10).await;
    until("live", || (server.status("stage").state == State::Live).then_some(())).await;
    let status = server.status("stage");
    assert_eq!(status.video.as_ref().unwrap().codec, VideoCodec::Vp8);
    assert_eq!(status.audio.as_ref().unwrap().codec, "OPUS");
    let mut viewer = server.watch("stage").await;
    let first = viewer.video().await;
    assert_eq!(first.payload[..], [0x10, 0, 10], "playback begins with the newest key frame");
    let playing = async {
        for sequence in 0..400u16 {
            publisher.say(sequence, &[0xf8, sequence as u8]).await;
            publisher.send(100_000 + u32::from(sequence) * 900, true, &[0x10, 1, 77]).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let listening = async {
        let mut both = (false, false);
        while both != (true, true) {
            let packet = viewer.packet().await;
            match packet.track {
                Track::Video => both.0 |= packet.payload[2] == 77,
                Track::Audio => both.1 |= packet.payload[0] == 0xf8,
            }
        }
    };
    tokio::select! {
        () = playing => panic!("no audio received"),
        () = listening => {}
    }
    // DELETE ends the session, and the stream's status says so.
    let response = obs.delete(&publisher.location).send().await.unwrap();
    assert_eq!(response.status(), 200);
    until("nobody publishes", || (server.status("stage").state == State::Idle).then_some(())).await;
    assert_eq!(server.status("stage").reason.as_ref().unwrap().code, "not_published");
    let log = server.get(&server.http(), "/api/admin/log?action=publish").await;
    assert_eq!(log["entries"][0]["target"], "stage", "{log}");
}

#[tokio::test]
async fn h264_is_repacketized_and_key_frames_are_requested() {
    let camera = camera(DemoOptions::default()).await;
    let server = server(STAGE).await;
    let obs = token(&server, "admin", publish()).await;
    let mut publisher = Publisher::start(&server, &obs, "camera/stage", Codec::H264).await.unwrap();
    publisher.connected().await;
    let url = Url::parse(&camera.url()).unwrap();
    let (transport, tls, follow) = (Transport::Tcp, TlsTrust::System, Vec::new());
    let spec = SourceSpec::Rtsp { url, credentials: None, transport, tls, follow };
    let mut source = gatehouse::streams::connection::SourceConnection::connect(&spec).await.unwrap();
    let feeding = async {
        loop {
            if let Arrival::Rtp(packet) = source.next().await.unwrap()
                && packet.track == Track::Video
            {
                publisher.send(packet.timestamp, packet.marker, &packet.payload).await;
            }
        }
    };
    let watching = async {
        let mut viewer = server.watch("stage").await;
        viewer.video_where(|packet| is_key_start(&packet.payload)).await;
        for _ in 0..30 {
            assert!(viewer.video().await.payload.len() <= 1180);
        }
    };
    tokio::select! {
        () = feeding => {}
        () = within("a video frame", watching) => {}
    }
    let status = server.status("stage");
    assert_eq!(status.video.as_ref().unwrap().info.as_ref().unwrap().width, 1280);
}

#[tokio::test]
async fn one_publisher_per_stream_and_the_same_program_takes_over() {
    let server = server(STAGE).await;
    let obs = token(&server, "admin", publish()).await;
    let other = token(&server, "admin", publish()).await;
    let mut first = Publisher::start(&server, &obs, "camera/stage", Codec::Vp8).await.unwrap();
    first.connected().await;
    play_vp8(&mut first, 5, 1).await;
    let refused = Publisher::start(&server, &other, "camera/stage", Codec::Vp8).await;
    let (status, body) = refused.err().unwrap();
    assert_eq!((status, body["error"]["code"].as_str()), (409, Some("already_published")));
    let mut viewer = server.watch("stage").await;
    viewer.video().await;
    // The program was restarted: viewers stay connected.
    let mut second = Publisher::start(&server, &obs, "camera/stage", Codec::Vp8).await.unwrap();
    second.connected().await;
    let gone = || (server.gatehouse.engine().sessions() == 2).then_some(());
    until("the first publisher is gone, the viewer is not", gone).await;
    let playing = async {
        loop {
            second.send(1, true, &[0x10, 0, 99]).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = playing => {}
        _ = viewer.video_where(|packet| packet.payload[2] == 99) => {}
    }
}

#[tokio::test]
async fn a_long_gop_is_not_replayed() {
    let server = server(STAGE).await;
    let obs = token(&server, "admin", publish()).await;
    let mut publisher = Publisher::start(&server, &obs, "camera/stage", Codec::Vp8).await.unwrap();
    publisher.connected().await;
    // A GOP that is too long to be replayed, as browsers produce it.
    publisher.send(0, true, &[0x10, 0, 1]).await;
    let long = [&[0x10, 1, 2][..], &[0; 1100]].concat();
    for frame in 1..500u32 {
        publisher.send(frame * 3000, true, &long).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // This publisher ignores key frame requests (the browser tests count them) and sends one key frame a second.
    let sending = async {
        for frame in 500u32.. {
            let key = frame.is_multiple_of(100);
            publisher.send(frame * 3000, true, if key { &[0x10, 0, 3] } else { &long }).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let watching = async { server.watch("stage").await.video().await };
    let first = tokio::select! {
        first = watching => first,
        () = sending => unreachable!("it sends for ever"),
    };
    assert_eq!(first.payload[..], [0x10, 0, 3], "no old frame is sent");
}

#[tokio::test]
async fn who_may_publish() {
    let server = server(&format!("{STAGE}publish = [\"user:obs\"]\n")).await;
    for (name, role) in [("obs", Role::Member), ("mia", Role::Member), ("dan", Role::Dispatcher)] {
        server.user(name, role).await;
    }
    let obs = token(&server, "obs", publish()).await;
    let watch = Scopes { watch: true, ..Scopes::default() };
    let table = [
        (token(&server, "mia", publish()).await, "camera/stage", 404),
        (token(&server, "dan", publish()).await, "camera/stage", 404),
        (token(&server, "obs", watch).await, "camera/stage", 403),
        (crate::support::http(), "camera/stage", 401),
        (obs.clone(), "camera/none", 404),
        // The user's own camera, whatever the case of the name; nobody else's.
        (obs.clone(), "user/mia/camera", 404),
        (obs.clone(), "user/obs/other", 404),
        (obs.clone(), "call/1/obs", 404),
    ];
    for (client, stream, expected) in table {
        let found = Publisher::start(&server, &client, stream, Codec::Vp8).await.err().unwrap();
        assert_eq!(found.0, expected, "{stream} {found:?}");
    }
    for stream in ["camera/stage", "user/obs/camera"] {
        let mut publisher = Publisher::start(&server, &obs, stream, Codec::Vp8).await.unwrap();
        publisher.connected().await;
        publisher.vanish().await;
    }
    // Unused streams are removed.
    let id = StreamName::parse("user/obs/camera").unwrap();
    until("removed", || server.gatehouse.gate().streams().get(&id).is_none().then_some(())).await;
}

#[tokio::test]
async fn bad_offers_and_streams_without_a_publisher_are_refused() {
    let server = server(&format!("{STAGE}[[camera]]\nid = \"c\"\nurl = \"rtsp://127.0.0.1:9/x\"\n")).await;
    let client = server.http();
    let post = async |path: &str, body: String| {
        let request = client.post(server.url(path)).header("content-type", "application/sdp");
        let response = request.body(body).send().await.unwrap();
        let status = response.status().as_u16();
        let body: serde_json::Value =
            serde_json::from_str(&response.text().await.unwrap()).unwrap_or_default();
        (status, body["error"]["code"].clone())
    };
    let sends = offer("a=rtpmap:102 H265/90000\r\n").replace("recvonly", "sendonly");
    assert_eq!(post("/whip/camera/stage", "junk".into()).await, (422, json!("offer_unreadable")));
    assert_eq!(post("/whip/camera/stage", sends).await, (422, json!("no_common_codec")));
    let receives = offer(crate::support::H264);
    assert_eq!(post("/whip/camera/stage", receives.clone()).await, (422, json!("no_common_codec")));
    assert_eq!(post("/whip/camera/c", receives.clone()).await.0, 404, "an RTSP camera accepts no publisher");
    assert_eq!(post("/whep/camera/stage", receives).await, (409, json!("not_published")));
    assert_eq!(server.gatehouse.engine().sessions(), 0);
}

#[tokio::test]
async fn a_revoked_publisher_is_disconnected_within_a_second() {
    let server = server(STAGE).await;
    server.user("dan", Role::Dispatcher).await;
    let secret = server.gatehouse.accounts().add_token("dan", "obs", publish(), None).await.unwrap();
    let dan = bearer(Secret::expose(&secret));
    let mut publisher = Publisher::start(&server, &dan, "camera/stage", Codec::Vp8).await.unwrap();
    publisher.connected().await;
    assert_eq!(server.gatehouse.engine().sessions(), 1);
    let disabled = json!({ "disabled": true });
    let admin = server.log_in("admin").await;
    server.send(&admin, "PATCH", "/api/admin/users/dan", disabled).await;
    let start = std::time::Instant::now();
    until("the session is closed", || (server.gatehouse.engine().sessions() == 0).then_some(())).await;
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}
