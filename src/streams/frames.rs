//! Finds frames in a source's RTP payloads for all codecs. H.264 is normalized (`h264::shape`); other codecs that
//! browsers publish are passed through unchanged, with key frames marked. Pure. Start at [`Framer::push`].

use bytes::Bytes;

use super::h264::shape::{Findings, Shaped, Shaper};
use super::packet::VideoCodec;

/// The longest payload that is passed on: what fits an Ethernet frame beside the headers of IPv6, UDP, RTP and SRTP.
/// GStreamer sends 1,400 bytes; only ICE over TCP could bring more, which no viewer's path takes.
pub const MAX_PASSED: usize = 1400;

/// See the module.
pub enum Framer {
    /// H.264.
    Shaped(Box<Shaper>),
    /// All others.
    Passed(Passer),
}

impl Framer {
    /// For a new connection of a source.
    pub fn new(codec: VideoCodec, parameter_sets: &[Bytes]) -> Self {
        match codec {
            VideoCodec::H264 => Self::Shaped(Box::new(Shaper::new(parameter_sets))),
            codec => Self::Passed(Passer { codec, frame: None, gap: false }),
        }
    }

    /// Processes one RTP payload and appends the resulting packets to `out`.
    pub fn push(&mut self, timestamp: u32, marker: bool, lost: u16, payload: &Bytes, out: &mut Vec<Shaped>) {
        match self {
            Self::Shaped(shaper) => shaper.push(timestamp, marker, lost, payload, out),
            Self::Passed(passer) => out.extend(passer.push(timestamp, marker, lost, payload)),
        }
    }

    /// What is known about the stream, for H.264 only.
    pub fn findings(&self) -> Option<&Findings> {
        match self {
            Self::Shaped(shaper) => Some(shaper.findings()),
            Self::Passed(_) => None,
        }
    }
}

/// Passes payloads through unchanged.
pub struct Passer {
    codec: VideoCodec,
    /// The timestamp of the current frame.
    frame: Option<u32>,
    gap: bool,
}

impl Passer {
    fn push(&mut self, timestamp: u32, marker: bool, lost: u16, payload: &Bytes) -> Option<Shaped> {
        self.gap |= lost > 0 || payload.len() > MAX_PASSED;
        if payload.is_empty() || payload.len() > MAX_PASSED {
            return None;
        }
        let first = self.frame.replace(timestamp) != Some(timestamp);
        let key_start = first && begins_key_frame(self.codec, payload);
        let after_gap = std::mem::take(&mut self.gap);
        Some(Shaped { timestamp, marker, key_start, after_gap, payload: payload.clone() })
    }
}

/// Whether a payload begins a key frame.
fn begins_key_frame(codec: VideoCodec, payload: &[u8]) -> bool {
    match codec {
        // The shaper detects these.
        VideoCodec::H264 => false,
        VideoCodec::Vp8 => vp8_key(payload).unwrap_or(false),
        VideoCodec::Vp9 => vp9_key(payload).unwrap_or(false),
        // The aggregation header's N: the first packet of a coded video sequence.
        VideoCodec::Av1 => payload.first().is_some_and(|header| header & 0x08 != 0),
    }
}

/// RFC 7741 §4.2 and §4.3: the first packet of the first partition, with the key frame bit of the payload header.
fn vp8_key(payload: &[u8]) -> Option<bool> {
    let first = *payload.first()?;
    let starts = first & 0x10 != 0 && first & 0x07 == 0;
    let mut at = 1;
    if first & 0x80 != 0 {
        let extension = *payload.get(at)?;
        at += 1;
        if extension & 0x80 != 0 {
            // A picture id of 7 or 15 bits.
            at += if payload.get(at)? & 0x80 != 0 { 2 } else { 1 };
        }
        if extension & 0x40 != 0 {
            at += 1;
        }
        if extension & 0x30 != 0 {
            at += 1;
        }
    }
    Some(starts && payload.get(at)? & 0x01 == 0)
}

/// RFC 9628 §4.2: not inter-predicted, start of a frame, and in the lowest spatial layer.
fn vp9_key(payload: &[u8]) -> Option<bool> {
    let first = *payload.first()?;
    let (id, predicted, layers, begins) = (first & 0x80, first & 0x40, first & 0x20, first & 0x08);
    let mut at = 1;
    if id != 0 {
        at += if payload.get(at)? & 0x80 != 0 { 2 } else { 1 };
    }
    let lowest = layers == 0 || payload.get(at)? & 0x0e == 0;
    Some(predicted == 0 && begins != 0 && lowest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn key_frames_of_all_codecs() {
        let table: [(VideoCodec, &[u8], bool); 14] = [
            (VideoCodec::Vp8, &[0x10, 0x00], true),
            (VideoCodec::Vp8, &[0x10, 0x01], false),
            // Not the start of a partition; not the first partition.
            (VideoCodec::Vp8, &[0x00, 0x00], false),
            (VideoCodec::Vp8, &[0x11, 0x00], false),
            // With a picture id of 15 bits, TL0PICIDX and TID, as Chromium sends it.
            (VideoCodec::Vp8, &[0x90, 0xe0, 0x81, 0x02, 0x03, 0x20, 0x00], true),
            (VideoCodec::Vp8, &[0x90, 0xe0, 0x81, 0x02, 0x03, 0x20, 0x01], false),
            (VideoCodec::Vp8, &[0x90, 0x80, 0x02, 0x00], true),
            (VideoCodec::Vp8, &[0x90, 0x80], false),
            (VideoCodec::Vp9, &[0x88, 0x01], true),
            (VideoCodec::Vp9, &[0xc8, 0x01], false),
            (VideoCodec::Vp9, &[0xa8, 0x01, 0x00], true),
            (VideoCodec::Vp9, &[0xa8, 0x01, 0x02], false),
            (VideoCodec::Av1, &[0x18, 0x0a], true),
            (VideoCodec::Av1, &[0x90, 0x0a], false),
        ];
        for (codec, payload, expected) in table {
            assert_eq!(begins_key_frame(codec, payload), expected, "{codec:?} {payload:02x?}");
        }
    }

    #[test]
    fn only_the_first_packet_of_a_frame_starts_it_and_gaps_are_told() {
        let mut framer = Framer::new(VideoCodec::Vp8, &[]);
        let mut out = Vec::new();
        let key = Bytes::from_static(&[0x10, 0x00, 1]);
        framer.push(1, false, 0, &key, &mut out);
        framer.push(1, true, 0, &key, &mut out);
        framer.push(2, true, 3, &Bytes::from_static(&[0x10, 0x01]), &mut out);
        framer.push(3, true, 1, &Bytes::new(), &mut out);
        framer.push(3, true, 0, &key, &mut out);
        let flags: Vec<_> = out.iter().map(|shaped| (shaped.key_start, shaped.after_gap)).collect();
        assert_eq!(flags, [(true, false), (false, false), (false, true), (true, true)]);
        assert!(framer.findings().is_none());
    }

    #[test]
    fn a_payload_that_fits_no_path_is_a_gap() {
        let mut framer = Framer::new(VideoCodec::Vp8, &[]);
        let mut out = Vec::new();
        framer.push(1, true, 0, &Bytes::from(vec![0x10; MAX_PASSED + 1]), &mut out);
        assert!(out.is_empty());
        framer.push(2, true, 0, &Bytes::from(vec![0x10; MAX_PASSED]), &mut out);
        assert!(out[0].after_gap);
    }

    proptest! {
        #[test]
        fn garbage_is_harmless(data in prop::collection::vec(any::<u8>(), 0..20)) {
            for codec in VideoCodec::ALL {
                begins_key_frame(codec, &data);
            }
        }
    }
}
