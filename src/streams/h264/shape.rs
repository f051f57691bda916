//! Normalizes a camera's H.264 RTP payloads: at most 1,180 bytes, the newest parameter sets before every key frame,
//! no unnecessary NAL units, markers at the end of frames. Pure: no clock, no socket. Timestamps pass through
//! unchanged; numbering and timeline belong to the stream. Start at [`Shaper::push`].

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};

use super::nal::{
    NalType, Piece, fu_a_header, has_start_code, is_recovery_point, pieces, split_at_start_codes, stap_a,
};
use super::parameters::SliceKind;
use super::parameters::{VideoInfo, parameter_set_id, read_sps, slice_kind};
use crate::streams::packet::MAX_PAYLOAD;

/// NAL unit bytes per FU-A.
const CHUNK: usize = MAX_PAYLOAD - 2;
/// Maximum number of units before a picture (SEI and the like) that are kept for it; more are dropped.
const MAX_HELD: usize = 16;
/// A parameter set or SEI larger than this is considered invalid.
const MAX_SIDE_UNIT: usize = 16 * 1024;
/// Parameter sets and a picture in one fragmented unit, with start codes between them, are at most this long.
const MAX_JOINED: usize = 4 << 20;
/// Maximum number of parameter sets kept, of each kind.
const MAX_SETS: usize = 32;
/// After this many consecutive frames without a marker, the camera is assumed not to set it.
const UNMARKED_FRAMES: u32 = 2;

/// One normalized payload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shaped {
    /// Unchanged from the source.
    pub timestamp: u32,
    /// Last packet of the frame.
    pub marker: bool,
    /// First packet of a key frame.
    pub key_start: bool,
    /// Something is missing just before this packet.
    pub after_gap: bool,
    /// At most [`MAX_PAYLOAD`] bytes.
    pub payload: Bytes,
}

/// How the end of a frame is detected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Markers {
    /// By the marker bit, as RFC 6184 §5.1 requires.
    Trusted,
    /// By the next timestamp, because this camera marks every slice or none. Costs one packet of delay.
    Ignored,
}

/// The current frame.
#[derive(Default)]
struct Frame {
    timestamp: u32,
    begun: bool,
    pictures: bool,
    marked: bool,
    damaged: bool,
    sps_seen: bool,
    held: Vec<Bytes>,
}

/// A NAL unit that is arriving in fragments.
struct Open {
    header: u8,
    buffer: BytesMut,
    /// Its first fragment has been sent.
    started: bool,
}

/// What the shaper has detected and counted in the stream.
#[derive(Clone, Default, Debug)]
pub struct Findings {
    /// From the newest SPS.
    pub info: Option<VideoInfo>,
    /// Frames are sent in a different order than shown, which WebRTC does not support.
    pub b_frames: bool,
    /// Why the newest SPS could not be parsed, if it could not.
    pub sps_error: Option<String>,
    /// Payloads that could not be parsed.
    pub unreadable: u64,
    /// Points from which a picture builds up without a key frame (recovery points).
    pub recovery_points: u64,
    /// Key frames for which no parameter sets were known.
    pub keys_without_parameters: u64,
}

/// See the module documentation.
pub struct Shaper {
    sps: BTreeMap<u32, Bytes>,
    pps: BTreeMap<u32, Bytes>,
    frame: Frame,
    open: Option<Open>,
    markers: Markers,
    unmarked: u32,
    waiting: Option<Shaped>,
    gap: bool,
    arena: BytesMut,
    findings: Findings,
}

impl Default for Shaper {
    fn default() -> Self {
        Self::new(&[])
    }
}

impl Shaper {
    /// A shaper for a new connection, with the parameter sets of its SDP if it had any.
    pub fn new(parameter_sets: &[Bytes]) -> Self {
        let mut shaper = Self {
            sps: BTreeMap::new(),
            pps: BTreeMap::new(),
            frame: Frame::default(),
            open: None,
            markers: Markers::Trusted,
            unmarked: 0,
            waiting: None,
            gap: false,
            arena: BytesMut::new(),
            findings: Findings::default(),
        };
        for set in parameter_sets {
            shaper.keep_parameter_set(set);
        }
        shaper
    }

    /// What is known about the stream so far.
    pub fn findings(&self) -> &Findings {
        &self.findings
    }

    /// Processes one RTP payload of the camera and appends the resulting packets to `out`.
    pub fn push(&mut self, timestamp: u32, marker: bool, lost: u16, payload: &Bytes, out: &mut Vec<Shaped>) {
        if lost > 0 {
            self.damage();
        }
        if !self.frame.begun || timestamp != self.frame.timestamp {
            self.next_frame(timestamp, out);
        }
        let from = out.len();
        match pieces(payload) {
            Ok(pieces) => pieces.into_iter().for_each(|piece| self.piece(piece, out)),
            Err(_) => {
                self.findings.unreadable += 1;
                self.damage();
            }
        }
        if marker && self.frame.pictures {
            self.frame.marked |= self.markers == Markers::Ignored || out.len() > from;
            if self.markers == Markers::Trusted
                && let Some(last) = out[from..].last_mut()
            {
                last.marker = true;
            }
        }
    }

    /// Something is missing: the next packet comes after a gap.
    fn damage(&mut self) {
        self.gap = true;
        self.frame.damaged = true;
        self.open = None;
    }

    fn next_frame(&mut self, timestamp: u32, out: &mut Vec<Shaped>) {
        if self.open.is_some() {
            self.damage();
        }
        let missing = self.frame.pictures && !self.frame.marked && !self.frame.damaged;
        if self.markers == Markers::Trusted && self.frame.pictures && !self.frame.damaged {
            self.unmarked = if missing { self.unmarked + 1 } else { 0 };
            if self.unmarked >= UNMARKED_FRAMES {
                self.markers = Markers::Ignored;
            }
        }
        if let Some(mut last) = self.waiting.take() {
            last.marker = true;
            out.push(last);
        }
        // A loss between two frames counts against the frame in which it is noticed.
        let damaged = self.gap;
        self.frame = Frame { timestamp, begun: true, damaged, ..Frame::default() };
    }

    fn piece(&mut self, piece: Piece, out: &mut Vec<Shaped>) {
        match piece {
            Piece::Whole(nal) => {
                if self.open.is_some() {
                    self.damage();
                }
                self.units(nal, out);
            }
            Piece::Fragment { header, first, last, data } => self.fragment(header, first, last, &data, out),
        }
    }

    /// A unit, or several with start codes between them.
    fn units(&mut self, nal: Bytes, out: &mut Vec<Shaped>) {
        if !has_start_code(&nal) {
            return self.unit(nal, out);
        }
        for nal in split_at_start_codes(&nal) {
            self.unit(nal, out);
        }
    }

    fn unit(&mut self, nal: Bytes, out: &mut Vec<Shaped>) {
        match NalType::of(nal[0]) {
            NalType::Padding => {}
            NalType::Sps | NalType::Pps => self.keep_parameter_set(&nal),
            NalType::Slice | NalType::Idr => {
                self.begin_picture(&nal, out);
                self.emit_unit(nal, out);
            }
            NalType::Sei if !self.frame.pictures && is_recovery_point(&nal) => {
                self.findings.recovery_points += 1;
                self.hold(nal);
            }
            NalType::Sei | NalType::Other if self.frame.pictures => self.emit_unit(nal, out),
            NalType::Sei | NalType::Other => self.hold(nal),
        }
    }

    fn hold(&mut self, nal: Bytes) {
        if self.frame.held.len() < MAX_HELD && nal.len() <= MAX_SIDE_UNIT {
            self.frame.held.push(nal);
        }
    }

    fn fragment(&mut self, header: u8, first: bool, last: bool, data: &Bytes, out: &mut Vec<Shaped>) {
        if first {
            if self.open.is_some() {
                self.damage();
            }
            let mut buffer = BytesMut::with_capacity(data.len().max(2 * CHUNK));
            buffer.put_u8(header);
            buffer.extend_from_slice(data);
            if NalType::of(header).is_picture() {
                let head = Bytes::copy_from_slice(&buffer[..buffer.len().min(16)]);
                self.begin_picture(&head, out);
            }
            self.open = Some(Open { header, buffer, started: false });
        } else {
            match &mut self.open {
                Some(open) if open.header & 0x1f == header & 0x1f => open.buffer.extend_from_slice(data),
                // Its beginning was lost, so the rest is unusable.
                _ => return self.damage(),
            }
        }
        let Some(mut open) = self.open.take() else { return };
        if NalType::of(header).is_picture() {
            self.stream_out(&mut open, last, out);
        } else if open.buffer.len() > MAX_JOINED {
            return self.damage();
        } else if last {
            return self.units(open.buffer.freeze(), out);
        }
        if !last {
            self.open = Some(open);
        }
    }

    /// Emits what is complete of a fragmented picture: all full chunks, and at its end the rest.
    fn stream_out(&mut self, open: &mut Open, last: bool, out: &mut Vec<Shaped>) {
        if last && !open.started && open.buffer.len() <= MAX_PAYLOAD {
            let nal = open.buffer.split().freeze();
            return self.emit(nal, false, out);
        }
        if !open.started && open.buffer.len() > MAX_PAYLOAD {
            let _header = open.buffer.split_to(1);
            self.emit_chunk(open, CHUNK, (true, false), out);
        }
        while open.started && open.buffer.len() > CHUNK {
            self.emit_chunk(open, CHUNK, (false, false), out);
        }
        if last && open.started {
            let rest = open.buffer.len();
            self.emit_chunk(open, rest, (false, true), out);
        }
    }

    fn emit_chunk(&mut self, open: &mut Open, size: usize, ends: (bool, bool), out: &mut Vec<Shaped>) {
        let data = open.buffer.split_to(size);
        open.started = true;
        let payload = self.write(&fu_a_header(open.header, ends.0, ends.1), &data);
        self.emit(payload, false, out);
    }

    /// Called for each slice; before the first one of a frame it emits parameter sets and held units.
    fn begin_picture(&mut self, nal: &[u8], out: &mut Vec<Shaped>) {
        let kind = slice_kind(nal);
        if kind == Some(SliceKind::B) && !self.findings.b_frames {
            // If the SPS guarantees no reordering, B slices are harmless: they only refer backward.
            let promised = self.findings.info.as_ref().and_then(|info| info.reorder_frames);
            self.findings.b_frames = promised != Some(0);
        }
        if self.frame.marked && self.markers == Markers::Trusted {
            // More of the same frame after its marker: this camera marks every slice.
            self.markers = Markers::Ignored;
        }
        if self.frame.pictures {
            return;
        }
        self.frame.pictures = true;
        // Some cameras never send an IDR after the first one, only I slices after parameter sets.
        let key = NalType::of(nal[0]) == NalType::Idr || (self.frame.sps_seen && kind == Some(SliceKind::I));
        if key {
            self.emit_parameter_sets(out);
        }
        for nal in std::mem::take(&mut self.frame.held) {
            self.emit_unit(nal, out);
        }
    }

    fn emit_parameter_sets(&mut self, out: &mut Vec<Shaped>) {
        if self.sps.is_empty() || self.pps.is_empty() {
            self.findings.keys_without_parameters += 1;
            return;
        }
        let sets: Vec<Bytes> = self.sps.values().chain(self.pps.values()).cloned().collect();
        let bundle = stap_a(&sets);
        if bundle.len() <= MAX_PAYLOAD {
            return self.emit(Bytes::from(bundle), true, out);
        }
        let from = out.len();
        for set in sets {
            self.emit_unit(set, out);
        }
        if let Some(first) = out.get_mut(from) {
            first.key_start = true;
        }
    }

    fn keep_parameter_set(&mut self, nal: &Bytes) {
        let Some(id) = parameter_set_id(nal).filter(|_| nal.len() <= MAX_SIDE_UNIT) else { return };
        // Payloads may be slices of large network buffers; a copy allows those to be freed.
        let copy = Bytes::copy_from_slice(nal);
        if NalType::of(nal[0]) == NalType::Pps {
            insert_bounded(&mut self.pps, id, copy);
            return;
        }
        self.frame.sps_seen = true;
        if self.sps.get(&id) == Some(nal) {
            return;
        }
        match read_sps(nal) {
            Ok(info) => {
                self.findings.info = Some(info);
                self.findings.b_frames = false;
                self.findings.sps_error = None;
            }
            Err(error) => self.findings.sps_error = Some(error),
        }
        insert_bounded(&mut self.sps, id, copy);
    }

    fn emit_unit(&mut self, nal: Bytes, out: &mut Vec<Shaped>) {
        if nal.len() <= MAX_PAYLOAD {
            return self.emit(nal, false, out);
        }
        let header = nal[0];
        let chunks = nal[1..].chunks(CHUNK);
        let count = chunks.len();
        for (number, chunk) in chunks.enumerate() {
            let payload = self.write(&fu_a_header(header, number == 0, number + 1 == count), chunk);
            self.emit(payload, false, out);
        }
    }

    fn write(&mut self, head: &[u8], data: &[u8]) -> Bytes {
        if self.arena.capacity() < head.len() + data.len() {
            self.arena = BytesMut::with_capacity(16 * MAX_PAYLOAD);
        }
        self.arena.extend_from_slice(head);
        self.arena.extend_from_slice(data);
        self.arena.split().freeze()
    }

    fn emit(&mut self, payload: Bytes, key_start: bool, out: &mut Vec<Shaped>) {
        let after_gap = std::mem::take(&mut self.gap);
        let timestamp = self.frame.timestamp;
        let shaped = Shaped { timestamp, marker: false, key_start, after_gap, payload };
        match self.markers {
            Markers::Trusted => out.push(shaped),
            Markers::Ignored => out.extend(self.waiting.replace(shaped)),
        }
    }
}

fn insert_bounded(sets: &mut BTreeMap<u32, Bytes>, id: u32, nal: Bytes) {
    if sets.len() < MAX_SETS || sets.contains_key(&id) {
        sets.insert(id, nal);
    }
}

#[cfg(test)]
#[path = "shape_tests.rs"]
mod tests;
