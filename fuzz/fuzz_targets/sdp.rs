//! WHEP and WHIP bodies: offers, trickle ICE fragments, candidates.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};

use gatehouse::media::session::candidates::parse_remote;
use gatehouse::media::session::negotiate::{self, Tracks};
use gatehouse::media::session::sdp::Sdp;
use gatehouse::streams::packet::VideoCodec;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(fragment) = Sdp::parse_fragment(text) {
        let _ = negotiate::remote_credentials(&fragment);
        for candidate in negotiate::candidates(&fragment) {
            let _ = parse_remote(&candidate, IpAddr::V4(Ipv4Addr::LOCALHOST));
        }
    }
    let _ = negotiate::check(text);
    let tracks = Tracks { video: Some((VideoCodec::H264, "42e01f".into())), audio: None };
    let _ = negotiate::watch(text, &tracks, [1, 2, 3, 4]);
    let _ = negotiate::publish(text);
});
