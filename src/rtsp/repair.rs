//! Makes the RTP of a camera continuous: one SSRC, running numbers, nothing but header and payload. Packets that are no
//! RTP are dropped, those that are out of order are put in order, a new SSRC or a jump of the numbers goes on without a
//! gap once a second packet confirms it (RFC 3550 appendix A.1). Pure. Start at [`Repair::push`].

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A larger step forward is a jump of the numbers, not loss.
const MAX_LOSS: i32 = 1000;
/// Packets that come later than this are those of a camera that counts anew.
const MAX_LATE: i32 = 100;
/// So many late packets in a row mean that the camera counts anew, too.
const LATE_RUN: u32 = 5;
/// So many packets in a row of another payload type mean that it has changed.
const TYPE_RUN: u32 = 20;
/// The largest loss that is passed on as such.
const MAX_TOLD: u16 = 100;
/// The fixed part of an RTP header.
const HEADER: usize = 12;

/// How long packets wait for those before them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Packets that may wait.
    pub packets: usize,
    /// For how long.
    pub time: Duration,
}

impl Patience {
    /// Inside the RTSP connection: cameras swap neighbours, nothing else gets out of order.
    pub const TCP: Self = Self { packets: 4, time: Duration::from_millis(20) };
    /// In datagrams.
    pub const UDP: Self = Self { packets: 64, time: Duration::from_millis(40) };
}

/// A packet without everything that concerns only its way.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Packet<'a> {
    marker: bool,
    payload_type: u8,
    sequence: u16,
    timestamp: u32,
    ssrc: u32,
    /// Borrowed while the packet arrives, owned while it waits.
    payload: Cow<'a, [u8]>,
}

impl<'a> Packet<'a> {
    /// RFC 3550 §5.1. `None` if it is not RTP.
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (head, mut rest) = bytes.split_at_checked(HEADER)?;
        if head[0] >> 6 != 2 {
            return None;
        }
        rest = rest.get(usize::from(head[0] & 15) * 4..)?;
        if head[0] & 0x10 != 0 {
            let words = u16::from_be_bytes([*rest.get(2)?, *rest.get(3)?]);
            rest = rest.get(4 + usize::from(words) * 4..)?;
        }
        if head[0] & 0x20 != 0 {
            // A count of 0 is wrong; the byte itself is padding all the same.
            let padding = usize::from(*rest.last()?).max(1);
            rest = rest.get(..rest.len().checked_sub(padding)?)?;
        }
        let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        Some(Self {
            marker: head[1] & 0x80 != 0,
            payload_type: head[1] & 0x7f,
            sequence: u16::from_be_bytes([head[2], head[3]]),
            timestamp: word(4),
            ssrc: word(8),
            payload: Cow::Borrowed(rest),
        })
        .filter(|packet| !packet.payload.is_empty())
    }

    fn follows(&self, ssrc: u32, sequence: u16) -> bool {
        self.ssrc == ssrc && self.sequence == sequence.wrapping_add(1)
    }

    fn owned(self) -> Packet<'static> {
        Packet { payload: Cow::Owned(self.payload.into_owned()), ..self }
    }
}

/// The last packet that went out.
#[derive(Debug)]
struct Last {
    sequence: u16,
    timestamp: u32,
    ssrc: u32,
}

/// One track.
#[derive(Debug)]
pub struct Repair {
    channel: u8,
    ssrc: u32,
    payload_type: u8,
    patience: Patience,
    /// The number of the next packet that goes out.
    next: u16,
    last: Option<Last>,
    /// The payload of the last packet, to notice repetitions.
    last_payload: Vec<u8>,
    /// By distance from the last packet.
    waiting: BTreeMap<i32, Packet<'static>>,
    waiting_since: Option<Instant>,
    /// A packet of another SSRC or with a number that is far away.
    candidate: Option<Packet<'static>>,
    late: Option<(u16, u32)>,
    /// The payload type as it arrives, and how often another one has come in a row.
    incoming_type: Option<u8>,
    other_type: (u8, u32),
    dropped: u64,
}

impl Repair {
    /// Of a track whose packets go out on a channel with this SSRC and payload type.
    pub fn new(channel: u8, ssrc: u32, payload_type: u8, patience: Patience) -> Self {
        Self {
            channel,
            ssrc,
            payload_type,
            patience,
            next: 1,
            last: None,
            last_payload: Vec::new(),
            waiting: BTreeMap::new(),
            waiting_since: None,
            candidate: None,
            late: None,
            incoming_type: None,
            other_type: (0, 0),
            dropped: 0,
        }
    }

    /// Packets that were no RTP, or were not needed.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The SSRC as it arrives.
    pub fn incoming_ssrc(&self) -> Option<u32> {
        self.last.as_ref().map(|last| last.ssrc)
    }

    /// The highest number that has arrived, for receiver reports.
    pub fn highest(&self) -> Option<u16> {
        self.last.as_ref().map(|last| last.sequence)
    }

    /// Takes a packet; appends what goes out to `out`, each with its interleaved prefix.
    pub fn push(&mut self, now: Instant, bytes: &[u8], out: &mut Vec<u8>) {
        let Some(packet) = Packet::parse(bytes).filter(|packet| self.is_of_type(packet.payload_type)) else {
            self.dropped += 1;
            return;
        };
        let Some(last) = &self.last else { return self.emit(&packet, 0, out) };
        let distance = i32::from(packet.sequence.wrapping_sub(last.sequence) as i16);
        if packet.ssrc != last.ssrc || !(-MAX_LATE..=MAX_LOSS).contains(&distance) {
            return self.far(packet, out);
        }
        match distance {
            1 => self.emit(&packet, 0, out),
            // A camera that does not count at all.
            0 if packet.timestamp != last.timestamp || *packet.payload != self.last_payload[..] => {
                self.emit(&packet, 0, out);
            }
            ..=0 => self.late(&packet, out),
            _ => {
                self.waiting.entry(distance).or_insert_with(|| packet.owned());
                self.waiting_since.get_or_insert(now);
                if self.waiting.len() > self.patience.packets {
                    self.give_up(out);
                }
                return;
            }
        }
        self.drain(out);
    }

    /// When [`Self::expire`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        self.waiting_since.map(|since| since + self.patience.time)
    }

    /// Gives up on missing packets whose time is over.
    pub fn expire(&mut self, now: Instant, out: &mut Vec<u8>) {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.give_up(out);
        }
    }

    fn is_of_type(&mut self, payload_type: u8) -> bool {
        let expected = *self.incoming_type.get_or_insert(payload_type);
        if payload_type == expected {
            self.other_type.1 = 0;
            return true;
        }
        self.other_type = match self.other_type {
            (known, count) if known == payload_type => (known, count + 1),
            _ => (payload_type, 1),
        };
        if self.other_type.1 >= TYPE_RUN {
            self.incoming_type = Some(payload_type);
        }
        self.other_type.1 >= TYPE_RUN
    }

    /// A packet of another SSRC or with a number that is far away: taken once the next one confirms it.
    fn far(&mut self, packet: Packet<'_>, out: &mut Vec<u8>) {
        match self.candidate.take() {
            Some(candidate) if packet.follows(candidate.ssrc, candidate.sequence) => {
                self.give_up(out);
                let jump = self.last.as_ref().map(|last| candidate.sequence.wrapping_sub(last.sequence));
                let is_loss =
                    self.incoming_ssrc() == Some(candidate.ssrc) && jump.is_some_and(|jump| jump < 3000);
                self.emit(&candidate, u16::from(is_loss), out);
                self.emit(&packet, 0, out);
            }
            _ => self.candidate = Some(packet.owned()),
        }
    }

    fn late(&mut self, packet: &Packet<'_>, out: &mut Vec<u8>) {
        self.dropped += 1;
        let count = match self.late {
            Some((sequence, count)) if packet.sequence == sequence.wrapping_add(1) => count + 1,
            _ => 1,
        };
        self.late = Some((packet.sequence, count));
        let is_old = self
            .last
            .as_ref()
            .is_some_and(|last| (packet.timestamp.wrapping_sub(last.timestamp) as i32) <= 0);
        if count >= LATE_RUN && !is_old {
            self.give_up(out);
            self.emit(packet, 1, out);
        }
    }

    /// Sends what waits and is next.
    fn drain(&mut self, out: &mut Vec<u8>) {
        if self.waiting.is_empty() {
            return;
        }
        let waiting = std::mem::take(&mut self.waiting);
        let mut rest = Vec::new();
        for packet in waiting.into_values() {
            if self.last.as_ref().is_some_and(|last| packet.follows(last.ssrc, last.sequence)) {
                self.emit(&packet, 0, out);
            } else {
                rest.push(packet);
            }
        }
        self.wait_again(rest);
    }

    fn wait_again(&mut self, packets: Vec<Packet<'static>>) {
        let Some(last) = &self.last else { return };
        let number = last.sequence;
        let distance = |packet: &Packet<'_>| i32::from(packet.sequence.wrapping_sub(number) as i16);
        self.waiting =
            packets.into_iter().map(|packet| (distance(&packet), packet)).filter(|(at, _)| *at > 0).collect();
        if self.waiting.is_empty() {
            self.waiting_since = None;
        }
    }

    /// Sends everything that waits, with its gaps.
    fn give_up(&mut self, out: &mut Vec<u8>) {
        self.waiting_since = None;
        for packet in std::mem::take(&mut self.waiting).into_values() {
            let last = self.last.as_ref().map_or(packet.sequence, |last| last.sequence);
            let missing = packet.sequence.wrapping_sub(last).saturating_sub(1);
            self.emit(&packet, missing.min(MAX_TOLD), out);
        }
    }

    fn emit(&mut self, packet: &Packet<'_>, missing: u16, out: &mut Vec<u8>) {
        self.candidate = None;
        if missing > 0 || self.late.is_some() {
            self.late = None;
        }
        self.next = self.next.wrapping_add(missing);
        let length = (HEADER + packet.payload.len()) as u16;
        out.extend_from_slice(&[b'$', self.channel]);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&[0x80, u8::from(packet.marker) << 7 | self.payload_type]);
        out.extend_from_slice(&self.next.to_be_bytes());
        out.extend_from_slice(&packet.timestamp.to_be_bytes());
        out.extend_from_slice(&self.ssrc.to_be_bytes());
        out.extend_from_slice(&packet.payload);
        self.next = self.next.wrapping_add(1);
        self.last_payload.clear();
        self.last_payload.extend_from_slice(&packet.payload);
        let Packet { sequence, timestamp, ssrc, .. } = *packet;
        self.last = Some(Last { sequence, timestamp, ssrc });
    }

    /// Takes RTCP; appends the camera's sender report for this track, if there is one. Everything else is left out.
    pub fn push_rtcp(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut rest = bytes;
        while let Some((head, _)) = rest.split_at_checked(4) {
            let length = (usize::from(u16::from_be_bytes([head[2], head[3]])) + 1) * 4;
            let is_report = head[0] >> 6 == 2 && head[1] == 200;
            // Some cameras write a wrong length; the fixed part is at the same place all the same.
            if is_report && let Some(report) = rest.get(4..28) {
                let ssrc = u32::from_be_bytes([report[0], report[1], report[2], report[3]]);
                let has_time = report[4..12].iter().any(|byte| *byte != 0);
                if has_time && self.incoming_ssrc() == Some(ssrc) {
                    out.extend_from_slice(&[b'$', self.channel + 1, 0, 28, 0x80, 200, 0, 6]);
                    out.extend_from_slice(&self.ssrc.to_be_bytes());
                    out.extend_from_slice(&report[4..]);
                }
                return;
            }
            rest = rest.get(length..).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet: SSRC, sequence number; the payload is the last two bytes of its place in the test.
    fn packet(ssrc: u32, sequence: u16, place: u16) -> Vec<u8> {
        let mut bytes = vec![0x80, 96];
        bytes.extend(sequence.to_be_bytes());
        bytes.extend((u32::from(place) * 3600).to_be_bytes());
        bytes.extend(ssrc.to_be_bytes());
        bytes.extend(place.to_be_bytes());
        bytes
    }

    /// Sequence numbers and payloads of what goes out.
    fn read(out: &[u8]) -> Vec<(u16, u16)> {
        let mut found = Vec::new();
        let mut rest = out;
        while !rest.is_empty() {
            let length = usize::from(u16::from_be_bytes([rest[2], rest[3]]));
            let packet = &rest[4..4 + length];
            assert_eq!((packet[0], packet[1] & 0x7f, &packet[8..12]), (0x80, 96, &7u32.to_be_bytes()[..]));
            let word = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
            found.push((word(2), word(length - 2)));
            rest = &rest[4 + length..];
        }
        found
    }

    fn repaired(packets: &[(u32, u16)]) -> Vec<(u16, u16)> {
        let (mut repair, mut out, now) = (Repair::new(0, 7, 96, Patience::TCP), Vec::new(), Instant::now());
        for (place, (ssrc, sequence)) in packets.iter().enumerate() {
            repair.push(now, &packet(*ssrc, *sequence, place as u16), &mut out);
        }
        repair.expire(now + Duration::from_secs(1), &mut out);
        read(&out)
    }

    #[test]
    fn numbers_run_on() {
        let same = |numbers: &[u16]| numbers.iter().map(|number| (1, *number)).collect::<Vec<_>>();
        type Row = (&'static str, Vec<(u32, u16)>, Vec<(u16, u16)>);
        let table: Vec<Row> = vec![
            ("in order", same(&[10, 11, 12]), vec![(1, 0), (2, 1), (3, 2)]),
            ("wrapping", same(&[65535, 0, 1]), vec![(1, 0), (2, 1), (3, 2)]),
            ("two swapped", same(&[10, 12, 11, 13]), vec![(1, 0), (2, 2), (3, 1), (4, 3)]),
            ("the first two swapped", same(&[11, 10, 12]), vec![(1, 0), (2, 2)]),
            (
                "one lost",
                same(&[10, 12, 13, 14, 15, 16]),
                vec![(1, 0), (3, 1), (4, 2), (5, 3), (6, 4), (7, 5)],
            ),
            ("one lost at the end", same(&[10, 12]), vec![(1, 0), (3, 1)]),
            ("a jump ahead", same(&[10, 30_000, 30_001, 30_002]), vec![(1, 0), (2, 1), (3, 2), (4, 3)]),
            ("a restart", same(&[5000, 5001, 5, 6, 7]), vec![(1, 0), (2, 1), (3, 2), (4, 3), (5, 4)]),
            ("a stray number", same(&[10, 30_000, 11, 12]), vec![(1, 0), (2, 2), (3, 3)]),
            ("always the same number", same(&[0, 0, 0]), vec![(1, 0), (2, 1), (3, 2)]),
            ("a new SSRC", vec![(1, 10), (2, 11), (2, 12)], vec![(1, 0), (2, 1), (3, 2)]),
            ("a stray SSRC", vec![(1, 10), (2, 500), (1, 11)], vec![(1, 0), (2, 2)]),
            ("much lost", same(&[10, 1500, 1501]), vec![(1, 0), (3, 1), (4, 2)]),
        ];
        for (what, packets, expected) in table {
            assert_eq!(repaired(&packets), expected, "{what}");
        }
    }

    #[test]
    fn a_restart_nearby_is_noticed() {
        let numbers: Vec<(u32, u16)> = (40..60).chain(5..30).map(|number| (1, number)).collect();
        let found = repaired(&numbers);
        assert_eq!(found.len(), numbers.len() - 4, "{found:?}");
    }

    #[test]
    fn repeated_packets_go_out_once() {
        let (mut repair, mut out, now) = (Repair::new(0, 7, 96, Patience::TCP), Vec::new(), Instant::now());
        for number in 0..5 {
            for _ in 0..2 {
                repair.push(now, &packet(1, number, number), &mut out);
            }
        }
        assert_eq!(read(&out), [(1, 0), (2, 1), (3, 2), (4, 3), (5, 4)]);
    }

    #[test]
    fn what_is_not_rtp_is_dropped_and_the_rest_is_bare() {
        let plain = packet(1, 10, 7);
        let mut extended = plain.clone();
        extended[0] = 0x91;
        extended.splice(12..12, [1, 2, 3, 4, 0xab, 0xac, 0, 1, 0, 0, 0, 0]);
        let mut padded = plain.clone();
        padded[0] = 0xa0;
        padded.extend([0, 0, 0, 4]);
        let mut padded_with_0 = plain.clone();
        padded_with_0[0] = 0xa0;
        padded_with_0.push(0);
        for bytes in [&plain, &extended, &padded, &padded_with_0] {
            let (mut repair, mut out) = (Repair::new(0, 7, 96, Patience::TCP), Vec::new());
            repair.push(Instant::now(), bytes, &mut out);
            assert_eq!(read(&out), [(1, 7)], "{bytes:02x?}");
        }
        let mut overpadded = plain.clone();
        overpadded[0] = 0xa0;
        *overpadded.last_mut().unwrap() = 200;
        let mut version_0 = plain.clone();
        version_0[0] = 0;
        for bytes in [&plain[..8], &plain[..12], &version_0, &overpadded, &[]] {
            let (mut repair, mut out) = (Repair::new(0, 7, 96, Patience::TCP), Vec::new());
            repair.push(Instant::now(), bytes, &mut out);
            assert!(out.is_empty() && repair.dropped() == 1, "{bytes:02x?}");
        }
    }

    #[test]
    fn another_payload_type_is_left_out_unless_it_stays() {
        let (mut repair, mut out, now) = (Repair::new(0, 7, 96, Patience::TCP), Vec::new(), Instant::now());
        let mut send = |sequence: u16, payload_type: u8| {
            let mut bytes = packet(1, sequence, sequence);
            bytes[1] = payload_type;
            out.clear();
            repair.push(now, &bytes, &mut out);
            read(&out).len()
        };
        assert_eq!((send(1, 98), send(2, 13), send(2, 98)), (1, 0, 1));
        let taken: usize = (3..40).map(|sequence| send(sequence, 99)).sum();
        assert!(taken > 0);
    }

    #[test]
    fn sender_reports_are_those_of_the_track() {
        let (mut repair, mut out) = (Repair::new(0, 7, 96, Patience::TCP), Vec::new());
        repair.push(Instant::now(), &packet(5, 1, 1), &mut out);
        let report = |ssrc: u32, time: u64| {
            let head = [0x80, 200, 0, 6];
            [&head[..], &ssrc.to_be_bytes(), &time.to_be_bytes(), &[9; 12]].concat()
        };
        let mut forwarded = |bytes: &[u8]| {
            out.clear();
            repair.push_rtcp(bytes, &mut out);
            !out.is_empty()
        };
        let mut wrong_length = report(5, 1);
        wrong_length[3] = 99;
        let receiver_first = [&[0x80, 201, 0, 1, 0, 0, 0, 9][..], &report(5, 1)].concat();
        let trailing = [&report(5, 1)[..], &[0, 0]].concat();
        for (bytes, expected) in [
            (report(5, 1), true),
            (report(6, 1), false),
            (report(5, 0), false),
            (wrong_length, true),
            (receiver_first, true),
            (trailing, true),
            (vec![0x81, 203, 0, 1, 0, 0, 0, 5], false),
            (vec![0x80, 200], false),
            (vec![0; 4], false),
            (vec![], false),
        ] {
            assert_eq!(forwarded(&bytes), expected, "{bytes:02x?}");
        }
    }
}
