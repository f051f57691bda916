//! A publisher's packets after decryption: order, retransmissions, reports, and the stream that takes them.
#![no_main]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt;
use gatehouse::media::publish::publisher::Publisher;
use gatehouse::media::session::negotiate::ReceiveTrack;
use gatehouse::streams::packet::{AudioCodec, VideoCodec};
use gatehouse::streams::published::{KeyFrames, PublishedConnection};
use libfuzzer_sys::fuzz_target;

struct Nobody;

impl KeyFrames for Nobody {
    fn request(&self) {}
}

fn track(payload_type: u8, rtx_payload_type: Option<u8>, clock: u32) -> ReceiveTrack {
    ReceiveTrack { payload_type, rtx_payload_type, nack: true, transport_cc: Some(5), clock }
}

fuzz_target!(|data: &[u8]| {
    let mut now = Instant::now();
    let (feed, mut stream) =
        PublishedConnection::new(Some(VideoCodec::Vp8), Some(AudioCodec::Opus), Arc::new(Nobody));
    let (video, audio) = (track(96, Some(97), 90_000), track(111, None, 48_000));
    let mut publisher = Publisher::new(Some(video), Some(audio), feed, now, 1);
    let mut rest = data;
    // Each packet: milliseconds since the one before, the first bit for RTCP; its length; its bytes.
    while let [step, length, tail @ ..] = rest {
        now += Duration::from_millis(u64::from(step & 0x7f) * 4);
        let (packet, behind) = tail.split_at(usize::from(*length).min(tail.len()));
        if step & 0x80 == 0 {
            publisher.rtp(now, &Bytes::copy_from_slice(packet));
        } else {
            publisher.rtcp(now, packet);
        }
        if let Some(compound) = publisher.poll(now) {
            assert!(compound.len() < 1500, "{} bytes of RTCP", compound.len());
            assert!(is_whole(&compound));
        }
        while stream.next().now_or_never().is_some_and(|arrival| arrival.is_ok()) {}
        rest = behind;
    }
});

/// Whether RTCP packets follow each other to the end (RFC 3550 §6.1).
fn is_whole(mut compound: &[u8]) -> bool {
    while let Some(&[first, _, high, low]) = compound.first_chunk::<4>() {
        let length = (usize::from(u16::from_be_bytes([high, low])) + 1) * 4;
        match compound.get(length..) {
            Some(behind) if first >> 6 == 2 => compound = behind,
            _ => return false,
        }
    }
    compound.is_empty()
}
