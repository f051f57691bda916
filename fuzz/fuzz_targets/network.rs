//! Parsers of untrusted network input: SDP, STUN, RTP, RTCP, signaling frames. `cargo +nightly fuzz run network`
#![no_main]

use bytes::Bytes;
use gatehouse::media::session::negotiate::{self, Tracks};
use gatehouse::rtp::packet::Rtp;
use gatehouse::media::{rtcp, sdp, stun};
use gatehouse::signaling::message;
use gatehouse::streams::frames::Framer;
use gatehouse::streams::packet::VideoCodec;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = rtcp::parse(data);
    let _ = stun::peek_username(data);
    if let Some(message) = stun::Incoming::parse(data) {
        let _ = (message.username(), message.use_candidate(), message.is_controlled());
    }
    let bytes = Bytes::copy_from_slice(data);
    let _ = Rtp::parse(&bytes, Some(5));
    for codec in VideoCodec::ALL {
        let mut out = Vec::new();
        Framer::new(codec, &[]).push(1, true, 0, &bytes, &mut out);
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = message::parse(text);
        let _ = sdp::Sdp::parse_fragment(text);
        let tracks = Tracks { video: Some((VideoCodec::H264, "42e01f".into())), audio: None };
        let _ = negotiate::watch(text, &tracks, [1, 2, 3, 4]);
        let _ = negotiate::publish(text);
    }
});
