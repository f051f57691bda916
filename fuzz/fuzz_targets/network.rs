//! What anybody can send to the port: SDP, STUN, RTCP. `cargo +nightly fuzz run network`
#![no_main]

use gatehouse::media::negotiate::{Tracks, negotiate};
use gatehouse::media::{rtcp, sdp, stun};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = rtcp::parse(data);
    let _ = stun::peek_username(data);
    if let Some(message) = stun::Incoming::parse(data) {
        let _ = (message.username(), message.use_candidate(), message.is_controlled());
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = sdp::Sdp::parse_fragment(text);
        let tracks = Tracks { profile_level_id: "42e01f".into(), audio: None };
        let _ = negotiate(text, &tracks, [1, 2, 3, 4]);
    }
});
