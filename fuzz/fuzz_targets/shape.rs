//! H.264 payloads of a hostile camera.
#![no_main]

use bytes::Bytes;
use gatehouse::streams::h264::shape::Shaper;
use gatehouse::streams::packet::MAX_PAYLOAD;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut shaper = Shaper::default();
    let mut out = Vec::new();
    let mut rest = data;
    let mut timestamp = 0;
    // Each packet: one byte of flags, two bytes of length, the payload.
    while let [flags, high, low, tail @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(tail.len());
        let (payload, behind) = tail.split_at(length);
        timestamp += u32::from(flags & 1);
        let (marker, lost) = (flags & 2 != 0, u16::from(flags & 4 != 0));
        shaper.push(timestamp, marker, lost, &Bytes::copy_from_slice(payload), &mut out);
        rest = behind;
    }
    assert!(out.iter().all(|shaped| (1..=MAX_PAYLOAD).contains(&shaped.payload.len())));
});
