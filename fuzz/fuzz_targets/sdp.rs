//! WHEP and WHIP bodies: offers, trickle ICE fragments, candidates.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};

use gatehouse::media::session::answer::{Local, answer};
use gatehouse::media::session::candidates::parse_remote;
use gatehouse::media::session::negotiate::{self, Tracks};
use gatehouse::media::session::sdp::Sdp;
use gatehouse::media::transport::ice::Credentials;
use gatehouse::streams::packet::{AudioCodec, VideoCodec};
use libfuzzer_sys::fuzz_target;

const LOCAL: Local<'static> = Local {
    ice: &Credentials { ufrag: String::new(), pwd: String::new() },
    fingerprint: "00",
    candidates: &[],
    stream: "s",
};

/// What we write is SDP, whatever the offer had in the lines that are repeated.
fn parses(answer: &str) {
    assert!(Sdp::parse(answer).is_ok(), "{answer}");
}

fuzz_target!(|text: &str| {
    if let Ok(fragment) = Sdp::parse_fragment(text) {
        let _ = negotiate::remote_credentials(&fragment);
        for candidate in negotiate::candidates(&fragment) {
            let _ = parse_remote(&candidate, IpAddr::V4(Ipv4Addr::LOCALHOST));
        }
    }
    let _ = negotiate::check(text);
    let _ = negotiate::check_for_camera(text);
    let tracks = Tracks { video: Some((VideoCodec::H264, "42e01f".into())), audio: Some(AudioCodec::Opus) };
    if let Ok(agreement) = negotiate::watch(text, &tracks, [1, 2, 3, 4]) {
        parses(&answer(&agreement, &LOCAL, 1));
    }
    if let Ok(publishing) = negotiate::publish(text) {
        parses(&answer(&publishing.agreement, &LOCAL, 1));
    }
});
