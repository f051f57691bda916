//! Tests of the shaper: by table for what cameras do, by property for everything else.

use super::super::nal::annex_b;
use super::*;
use proptest::prelude::*;

const DEMO: &[u8] = include_bytes!("../../demo/clip.h264");
const SPS: &[u8] = &[
    0x67, 0x42, 0xc0, 0x15, 0xa6, 0x11, 0x05, 0x06, 0x7e, 0x7c, 0x04, 0x40, 0x00, 0x00, 0x03, 0x00, 0x40,
    0x00, 0x00, 0x0c, 0x83, 0xc5, 0x8b, 0x84, 0x60,
];
const PPS: &[u8] = &[0x68, 0xc8, 0x42, 0x09, 0x2c, 0x80];
/// A slice header of one byte that says: first macroblock 0, slice type 5 (P) or 7 (I).
const P: u8 = 0b1001_1000;
const I: u8 = 0b1000_1000;

struct Camera {
    shaper: Shaper,
    out: Vec<Shaped>,
}

impl Camera {
    fn new() -> Self {
        Self { shaper: Shaper::default(), out: Vec::new() }
    }

    fn send(&mut self, timestamp: u32, marker: bool, payload: &[u8]) -> &mut Self {
        self.lossy(timestamp, marker, 0, payload)
    }

    fn lossy(&mut self, timestamp: u32, marker: bool, lost: u16, payload: &[u8]) -> &mut Self {
        self.shaper.push(timestamp, marker, lost, &Bytes::copy_from_slice(payload), &mut self.out);
        self
    }

    /// The output since the last call: `(timestamp, type, marker, key_start, after_gap)`.
    fn take(&mut self) -> Vec<(u32, u8, bool, bool, bool)> {
        let line = |s: &Shaped| (s.timestamp, s.payload[0] & 0x1f, s.marker, s.key_start, s.after_gap);
        let lines = self.out.iter().map(line).collect();
        self.out.clear();
        lines
    }
}

#[test]
fn parameter_sets_go_in_one_packet_with_the_key_frames_timestamp() {
    let mut camera = Camera::new();
    // Marked SPS and PPS with a timestamp of their own, an AUD, filler: all seen in the wild.
    camera.send(1, true, SPS).send(1, true, PPS).send(2, false, &[9, 0xf0]);
    camera.send(2, true, &[0x65, I, 1]).send(2, false, &[12, 0xff, 0x80]);
    camera.send(3, true, &[0x41, P, 1]);
    let expected = [(2, 24, false, true, false), (2, 5, true, false, false), (3, 1, true, false, false)];
    assert_eq!(camera.take(), expected);
}

#[test]
fn sei_stays_behind_the_parameter_sets() {
    let mut camera = Camera::new();
    camera.send(1, false, &[6, 5, 1, 2]).send(1, false, SPS).send(1, false, PPS).send(1, true, &[0x65, I]);
    let types: Vec<u8> = camera.take().iter().map(|line| line.1).collect();
    assert_eq!(types, [24, 6, 5]);
}

#[test]
fn parameter_sets_of_the_sdp_serve_until_newer_ones_come() {
    let mut camera = Camera::new();
    camera.shaper = Shaper::new(&[Bytes::from_static(SPS), Bytes::from_static(PPS)]);
    camera.send(1, true, &[0x65, I]);
    assert!(camera.out[0].payload.windows(SPS.len()).any(|window| window == SPS));
    camera.take();
    let mut newer = SPS.to_vec();
    newer[3] = 0x1e;
    camera.send(2, false, &newer).send(2, true, &[0x65, I]);
    assert!(camera.out[0].payload.windows(newer.len()).any(|window| window == newer));
    assert_eq!(camera.shaper.findings().info.as_ref().unwrap().profile_level_id, "42c01e");
}

#[test]
fn several_parameter_sets_all_go_along() {
    let mut camera = Camera::new();
    let second_pps = [0x68, 0b0101_0000, 0x80];
    camera.send(1, false, SPS).send(1, false, PPS).send(1, false, &second_pps).send(1, true, &[0x65, I]);
    let pieces = pieces(&camera.out[0].payload).unwrap();
    assert_eq!(pieces.len(), 3);
}

#[test]
fn an_i_slice_behind_an_sps_is_a_key_frame() {
    let mut camera = Camera::new();
    camera.send(1, false, SPS).send(1, false, PPS).send(1, true, &[0x61, I]);
    camera.send(2, true, &[0x61, I]);
    let keys: Vec<bool> = camera.take().iter().map(|line| line.3).collect();
    assert_eq!(keys, [true, false, false]);
}

#[test]
fn a_marker_on_every_slice_is_seen_through() {
    let mut camera = Camera::new();
    camera.send(1, true, &[0x41, P, 1]).send(1, true, &[0x41, 0x40, 2]);
    camera.take();
    for timestamp in 2..5 {
        camera.send(timestamp, true, &[0x41, P, 1]).send(timestamp, true, &[0x41, 0x40, 2]);
    }
    let lines = camera.take();
    let markers: Vec<(u32, bool)> = lines.iter().map(|line| (line.0, line.2)).collect();
    assert_eq!(markers, [(1, true), (2, false), (2, true), (3, false), (3, true), (4, false)]);
}

#[test]
fn missing_markers_are_put_in() {
    let mut camera = Camera::new();
    for timestamp in 1..8 {
        camera.send(timestamp, false, &[0x41, P, 1]);
    }
    let unmarked = camera.take().iter().filter(|line| !line.2).count();
    assert_eq!(unmarked, UNMARKED_FRAMES as usize);
}

#[test]
fn a_loss_is_a_gap_and_ends_the_fragment() {
    let mut camera = Camera::new();
    let big = vec![7; 1000];
    let fragment = |bits: u8| [&[0x7c, bits | 1], &big[..]].concat();
    camera.send(1, false, &fragment(0x80)).send(1, false, &fragment(0));
    assert_eq!(camera.take(), [(1, 28, false, false, false)]);
    camera.lossy(1, false, 2, &fragment(0)).send(1, true, &fragment(0x40));
    assert_eq!(camera.take(), []);
    camera.send(2, true, &[0x41, P]);
    assert_eq!(camera.take(), [(2, 1, true, false, true)]);
}

#[test]
fn sixty_kilobytes_become_small_packets() {
    let mut camera = Camera::new();
    let mut nal = vec![0x41, P];
    nal.extend((0..60_000u32).map(|i| i as u8));
    camera.send(1, true, &nal);
    assert!(camera.out.iter().all(|shaped| shaped.payload.len() <= MAX_PAYLOAD));
    assert_eq!(reassemble(&camera.out), [(1, nal)]);
    assert_eq!(camera.out.iter().filter(|shaped| shaped.marker).count(), 1);
}

#[test]
fn small_fragments_become_one_packet() {
    let mut camera = Camera::new();
    camera.send(1, false, &[0x7c, 0x81, P, 1]).send(1, false, &[0x7c, 0x01, 2]).send(
        1,
        true,
        &[0x7c, 0x41, 3],
    );
    assert_eq!(reassemble(&camera.out), [(1, vec![0x61, P, 1, 2, 3])]);
    assert_eq!(camera.take(), [(1, 1, true, false, false)]);
}

#[test]
fn b_frames_are_found() {
    let clip = include_bytes!("../../../tests/cameras/b-frames.h264");
    for (clip, expected) in [(&clip[..], true), (DEMO, false)] {
        let mut camera = Camera::new();
        for (number, nal) in annex_b(&Bytes::copy_from_slice(clip)).iter().enumerate() {
            camera.send(number as u32, true, nal);
        }
        assert_eq!(camera.shaper.findings().b_frames, expected);
    }
}

/// Reassembles the NAL units as a receiver does.
fn reassemble(shaped: &[Shaped]) -> Vec<(u32, Vec<u8>)> {
    let mut nals: Vec<(u32, Vec<u8>)> = Vec::new();
    for packet in shaped {
        for piece in pieces(&packet.payload).unwrap() {
            match piece {
                Piece::Whole(nal) => nals.push((packet.timestamp, nal.to_vec())),
                Piece::Fragment { header, first: true, data, .. } => {
                    nals.push((packet.timestamp, [&[header], &data[..]].concat()));
                }
                Piece::Fragment { data, .. } => nals.last_mut().unwrap().1.extend_from_slice(&data),
            }
        }
    }
    nals
}

/// Sends a NAL unit the way a camera would, in fragments of `size` if it is larger.
fn packetize(nal: &[u8], size: usize) -> Vec<Vec<u8>> {
    if nal.len() <= size {
        return vec![nal.to_vec()];
    }
    let chunks: Vec<&[u8]> = nal[1..].chunks(size).collect();
    let last = chunks.len() - 1;
    let packet = |(i, chunk): (usize, &&[u8])| [&fu_a_header(nal[0], i == 0, i == last)[..], chunk].concat();
    chunks.iter().enumerate().map(packet).collect()
}

fn picture() -> impl Strategy<Value = Vec<u8>> {
    let size = prop_oneof![4usize..40, 1170usize..1190, 2350usize..2370, 1usize..9000];
    (any::<bool>(), size, any::<u8>()).prop_map(|(key, size, fill)| {
        let mut nal = if key { vec![0x65, I] } else { vec![0x41, P] };
        nal.extend((0..size).map(|i| (i as u8).wrapping_add(fill)));
        nal
    })
}

proptest! {
    /// All input is output in order; every payload fits; every key frame follows its parameter sets.
    #[test]
    fn pictures_pass_unharmed(
        frames in prop::collection::vec(prop::collection::vec(picture(), 1..4), 1..12),
        size in 2usize..3000,
    ) {
        let mut shaper = Shaper::new(&[Bytes::from_static(SPS), Bytes::from_static(PPS)]);
        let mut out = Vec::new();
        let mut expected = Vec::new();
        for (number, frame) in frames.iter().enumerate() {
            for (slice, nal) in frame.iter().enumerate() {
                let packets = packetize(nal, size);
                for (i, packet) in packets.iter().enumerate() {
                    let marker = slice + 1 == frame.len() && i + 1 == packets.len();
                    shaper.push(number as u32, marker, 0, &Bytes::copy_from_slice(packet), &mut out);
                }
                expected.push((number as u32, nal.clone()));
            }
        }
        prop_assert!(out.iter().all(|shaped| shaped.payload.len() <= MAX_PAYLOAD));
        prop_assert!(out.iter().all(|shaped| !shaped.after_gap));
        let received = reassemble(&out);
        let pictures: Vec<_> = received.iter().filter(|(_, nal)| NalType::of(nal[0]).is_picture()).cloned().collect();
        prop_assert_eq!(pictures, expected);
        for (number, frame) in frames.iter().enumerate() {
            let of_frame: Vec<&Shaped> = out.iter().filter(|s| s.timestamp == number as u32).collect();
            let key = NalType::of(frame[0][0]) == NalType::Idr;
            prop_assert_eq!(of_frame[0].key_start, key);
            prop_assert_eq!(of_frame.iter().filter(|s| s.marker).count(), 1);
            prop_assert!(of_frame.last().unwrap().marker);
        }
    }

    /// Whatever arrives, nothing panics, nothing exceeds its bound, every payload fits.
    #[test]
    fn garbage_does_no_harm(
        packets in prop::collection::vec(
            (0u32..4, any::<bool>(), 0u16..2, prop::collection::vec(any::<u8>(), 0..64)), 0..200),
    ) {
        let mut shaper = Shaper::default();
        let mut out = Vec::new();
        for (timestamp, marker, lost, payload) in packets {
            shaper.push(timestamp, marker, lost, &Bytes::from(payload), &mut out);
        }
        prop_assert!(out.iter().all(|shaped| (1..=MAX_PAYLOAD).contains(&shaped.payload.len())));
        prop_assert!(shaper.frame.held.len() <= MAX_HELD);
    }
}
