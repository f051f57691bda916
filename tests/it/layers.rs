//! Main and sub stream of a camera: which one is pulled, how a viewer goes from one to the other, and what happens when
//! one of them does not work.

use std::time::Duration;

use gatehouse::demo::{DemoCamera, DemoOptions};
use gatehouse::names::StreamName;
use gatehouse::secret::Secret;
use gatehouse::streams::layer::Layer;
use gatehouse::streams::packet::RtpIn;
use gatehouse::streams::status::{State, StreamStatus};
use serde_json::{Value, json};
use url::Url;

use crate::support::{
    H264, Server, Viewer, camera, camera_toml, clip, is_key_start, offer, server, until, within,
};

/// A camera of 1280 × 720 with sound, and its sub stream of 320 × 180 without.
async fn cameras() -> (DemoCamera, DemoCamera) {
    let small = DemoOptions { clip: Some(clip("green.h264")), audio: false, ..DemoOptions::default() };
    (camera(DemoOptions::default()).await, camera(small).await)
}

fn toml(main: &str, sub: &str) -> String {
    camera_toml("c", main, &format!("sub_url = \"{sub}\"\nidle_timeout = \"0s\""))
}

async fn watch(server: &Server, query: &str) -> Viewer {
    let url = Url::parse(&server.url(&format!("/whep/camera/c{query}"))).unwrap();
    server.watch_with(&url, &Secret::new(server.token.as_str())).await.unwrap()
}

fn status(server: &Server, layer: Layer) -> StreamStatus {
    let stream = server.gatehouse.cameras().stream(&StreamName::camera("c").unwrap()).unwrap();
    StreamStatus::clone(&stream.layer(layer).unwrap().status())
}

async fn select(server: &Server, viewer: &Viewer, layer: &str) -> (u16, Value) {
    let path = Url::parse(&viewer.resource()).unwrap().path().to_owned() + "/layer";
    let (status, body) = server.send(&server.http(), "POST", &path, json!({ "encodingId": layer })).await;
    (status, body)
}

/// The height in the parameter sets in front of a key frame.
fn height(packet: &RtpIn) -> u32 {
    let length = usize::from(u16::from_be_bytes([packet.payload[1], packet.payload[2]]));
    let sps = gatehouse::streams::h264::parameters::read_sps(&packet.payload[3..3 + length]).unwrap();
    sps.height
}

/// Receives until a key frame of this height has come; everything until then must be without a gap in the numbers and
/// with times that go forward, at about the speed of the clock.
async fn receive_until(viewer: &mut Viewer, wanted: u32) -> u32 {
    let mut last: Option<u32> = None;
    let mut count = 0;
    loop {
        let packet = viewer.video().await;
        assert_eq!(packet.lost, 0, "no gap");
        let step = last.map_or(0, |last| packet.timestamp.wrapping_sub(last) as i32);
        assert!((0..5 * 90_000).contains(&step), "the time goes forward, by {step}");
        last = Some(packet.timestamp);
        count += 1;
        if is_key_start(&packet.payload) && height(&packet) == wanted {
            return count;
        }
    }
}

#[tokio::test]
async fn a_viewer_goes_from_one_to_the_other_and_back() {
    let (main, sub) = cameras().await;
    let server = server(&toml(&main.url(), &sub.url())).await;
    let mut viewer = watch(&server, "?layer=sub").await;
    receive_until(&mut viewer, 180).await;
    assert_eq!(
        (status(&server, Layer::Main).state, status(&server, Layer::Sub).state),
        (State::Idle, State::Live)
    );
    let cameras = server.get(&server.http(), "/api/cameras").await;
    let shown = &cameras["cameras"][0];
    assert_eq!((&shown["state"], &shown["viewers"]), (&json!("live"), &json!(1)));
    assert_eq!((&shown["sub"]["state"], &shown["sub"]["video"]["height"]), (&json!("live"), &json!(180)));

    assert_eq!(select(&server, &viewer, "main").await.0, 204);
    receive_until(&mut viewer, 720).await;
    until("the sub stream is no longer pulled", || {
        (status(&server, Layer::Sub).state == State::Idle).then_some(())
    })
    .await;
    assert_eq!(status(&server, Layer::Main).viewers, 1);

    assert_eq!(select(&server, &viewer, "sub").await.0, 204);
    receive_until(&mut viewer, 180).await;
    until("the main stream is no longer pulled", || {
        (status(&server, Layer::Main).state == State::Idle).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_picture_stays_while_the_other_layer_does_not_come() {
    let (main, sub) = cameras().await;
    let gone = main.url().replace("/demo", "/other");
    let server = server(&toml(&gone, &sub.url())).await;
    let mut viewer = watch(&server, "?layer=sub").await;
    assert_eq!(select(&server, &viewer, "main").await.0, 204);
    until("the main stream fails", || (status(&server, Layer::Main).state == State::Failed).then_some(()))
        .await;
    for _ in 0..100 {
        assert_eq!(viewer.video().await.lost, 0);
    }
    // Back to what it has: the main stream is no longer tried.
    assert_eq!(select(&server, &viewer, "sub").await.0, 204);
    until("nobody waits for it", || (status(&server, Layer::Main).state == State::Idle).then_some(())).await;
    assert_eq!(viewer.video().await.lost, 0);
}

#[tokio::test]
async fn the_other_layer_is_shown_instead_of_one_that_fails() {
    let (main, sub) = cameras().await;
    let gone = sub.url().replace("/demo", "/other");
    for (main, sub, query, height) in [
        (main.url(), gone.clone(), "?layer=sub", 720),
        (gone.clone(), sub.url(), "", 180),
        (gone.clone(), sub.url(), "?layer=main", 180),
    ] {
        let server = server(&toml(&main, &sub)).await;
        let mut viewer = watch(&server, query).await;
        receive_until(&mut viewer, height).await;
    }
    let server = server(&toml(&gone, &gone)).await;
    let url = Url::parse(&server.url("/whep/camera/c")).unwrap();
    assert!(server.watch_with(&url, &Secret::new(server.token.as_str())).await.is_err());
    assert_eq!(status(&server, Layer::Main).reason.unwrap().code, "camera_path");
}

#[tokio::test]
async fn a_layer_that_comes_later_is_switched_to() {
    let sub = cameras().await.1;
    let main = camera(DemoOptions::default()).await;
    let (url, address) = (main.url(), main.address());
    main.stop().await;
    let server = server(&toml(&url, &sub.url())).await;
    let mut viewer = watch(&server, "?layer=main").await;
    receive_until(&mut viewer, 180).await;
    let _main = within("the port is free", async {
        loop {
            match DemoCamera::start(address, DemoOptions::default()).await {
                Ok(camera) => return camera,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    })
    .await;
    receive_until(&mut viewer, 720).await;
}

#[tokio::test]
async fn what_cannot_be_selected() {
    let (main, sub) = cameras().await;
    let both = toml(&main.url(), &sub.url());
    let server = server(&format!("{both}{}", camera_toml("one", &main.url(), ""))).await;
    let viewer = watch(&server, "").await;
    let code = |(status, body): (u16, Value)| {
        (status, body["error"]["code"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(code(select(&server, &viewer, "huge").await), (422, "layer_unknown".into()));
    let one = server.watch("one").await;
    assert_eq!(code(select(&server, &one, "sub").await), (409, "layer_missing".into()));
    assert_eq!(select(&server, &one, "main").await.0, 204);
    let path = "/session/0000000000000000000000000000000000000000000/layer";
    let (status, _) = server.send(&server.http(), "POST", path, json!({ "encodingId": "sub" })).await;
    assert_eq!(status, 404);
    let path = "/whep/camera/c?layer=huge";
    let request = server.http().post(server.url(path)).header("content-type", "application/sdp");
    let response = request.body(offer(H264)).send().await.unwrap();
    assert_eq!(response.status(), 422);
}
