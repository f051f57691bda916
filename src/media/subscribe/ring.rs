//! A shard's buffer of the newest video packets of one stream: replays for joining viewers and retransmissions for
//! NACKs are served from it. Payloads are shared with all other copies. Pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::streams::packet::Packet;
use crate::streams::spec::ANSWERING_GOP_CACHE;

/// Packets that are always kept: a few seconds for retransmission at usual bit rates.
const MIN_PACKETS: usize = 1024;
/// Upper bound, whatever the camera sends.
const MAX_PACKETS: usize = 16 * 1024;
/// …and in bytes: twice the maximum size of the GOP cache.
const MAX_BYTES: usize = 64 << 20;

/// A stream without a packet for this long counts as stopped.
const FRESH: Duration = Duration::from_secs(1);

/// Upper bounds for a source that sends key frames on request: browsers produce GOPs of minutes, too long to
/// replay.
const ANSWERING_PACKETS: usize = 1024;
const ANSWERING_BYTES: usize = ANSWERING_GOP_CACHE;

/// See the module. Positions are packet indexes; `None` is a packet that was lost upstream.
#[derive(Default)]
pub struct Ring {
    /// Whether its source sends key frames on request.
    answering: bool,
    packets: VecDeque<Option<Packet>>,
    base: u64,
    bytes: usize,
    gop_start: Option<u64>,
    gop_damaged: bool,
    last_arrival: Option<Instant>,
}

impl Ring {
    /// An empty ring. `answering`: whether the source sends key frames on request.
    pub fn new(answering: bool) -> Self {
        Self { answering, ..Self::default() }
    }

    /// Records that a packet has arrived from the source.
    pub fn touch(&mut self, now: Instant) {
        self.last_arrival = Some(now);
    }

    /// Whether the source is delivering, so that the content of the ring is current.
    pub fn is_fresh(&self, now: Instant) -> bool {
        self.last_arrival.is_some_and(|at| now.saturating_duration_since(at) < FRESH)
    }

    /// Appends a packet; a jump in the index is a gap.
    pub fn push(&mut self, packet: Packet) {
        let end = self.end();
        if self.packets.is_empty() || packet.index < end || packet.index - end > MIN_PACKETS as u64 {
            // The first packet, a repeated or old one, or a gap so large that everything before it is useless.
            if packet.index < end && !self.packets.is_empty() {
                return;
            }
            self.packets.clear();
            self.bytes = 0;
            self.base = packet.index;
            self.gop_start = None;
        }
        while self.end() < packet.index {
            self.packets.push_back(None);
            self.gop_damaged = true;
        }
        if packet.key_start {
            self.gop_start = Some(packet.index);
            self.gop_damaged = false;
        }
        self.bytes += packet.payload.len();
        self.packets.push_back(Some(packet));
        self.evict();
    }

    fn evict(&mut self) {
        let needed_from = self.gop_start.unwrap_or(self.end());
        let (packets, bytes) = match self.answering {
            true => (ANSWERING_PACKETS, ANSWERING_BYTES),
            false => (MAX_PACKETS, MAX_BYTES),
        };
        while (self.packets.len() > MIN_PACKETS && self.base < needed_from)
            || self.packets.len() > packets
            || self.bytes > bytes
        {
            if let Some(Some(old)) = self.packets.pop_front() {
                self.bytes -= old.payload.len();
            }
            self.base += 1;
        }
        if self.gop_start.is_some_and(|start| start < self.base) {
            self.gop_start = None;
        }
    }

    /// The index after the last packet.
    pub fn end(&self) -> u64 {
        self.base + self.packets.len() as u64
    }

    /// The oldest index that is still stored.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// A packet by its index.
    pub fn get(&self, index: u64) -> Option<&Packet> {
        let place = index.checked_sub(self.base)?;
        self.packets.get(usize::try_from(place).ok()?)?.as_ref()
    }

    /// Where the newest key frame begins, if it is still stored.
    pub fn gop_start(&self) -> Option<u64> {
        self.gop_start
    }

    /// Whether packets are missing since the newest key frame.
    pub fn gop_damaged(&self) -> bool {
        self.gop_damaged
    }

    /// Bytes from an index to the end.
    pub fn bytes_from(&self, index: u64) -> usize {
        (index..self.end()).filter_map(|index| self.get(index)).map(|packet| packet.payload.len()).sum()
    }

    /// The index after the last packet of the frame that begins at `index`.
    pub fn frame_end(&self, index: u64) -> u64 {
        let timestamp = self.get(index).map(|packet| packet.timestamp);
        (index..self.end())
            .find(|&index| self.get(index).map(|packet| packet.timestamp) != timestamp)
            .unwrap_or(self.end())
    }
}

#[cfg(test)]
pub(in crate::media) mod tests {
    use super::*;
    use crate::streams::packet::Track;

    /// A packet of video for tests; each frame has three.
    pub fn packet(index: u64, key_start: bool) -> Packet {
        Packet {
            track: Track::Video,
            index,
            timestamp: (index / 3) as u32 * 3600,
            marker: index % 3 == 2,
            key_start,
            payload: vec![0x41; 1000].into(),
        }
    }

    #[test]
    fn keeps_the_gop_and_the_last_packets() {
        let mut ring = Ring::default();
        for index in 0..6000 {
            ring.push(packet(index, index % 3000 == 0));
        }
        assert_eq!((ring.gop_start(), ring.end()), (Some(3000), 6000));
        assert_eq!(ring.base(), 3000);
        assert_eq!(ring.frame_end(3000), 3003);
        assert_eq!(ring.bytes_from(5990), 10_000);
        ring.push(packet(6000, true));
        assert_eq!(ring.base(), 6001 - MIN_PACKETS as u64);
    }

    #[test]
    fn a_gap_damages_the_gop_until_the_next_key_frame() {
        let mut ring = Ring::default();
        ring.push(packet(10, true));
        ring.push(packet(12, false));
        assert!(ring.gop_damaged() && ring.get(11).is_none() && ring.get(12).is_some());
        ring.push(packet(13, true));
        assert!(!ring.gop_damaged());
        // Repeated and old packets change nothing.
        ring.push(packet(12, false));
        assert_eq!(ring.end(), 14);
        // A huge jump starts over.
        ring.push(packet(90_000, false));
        assert_eq!((ring.base(), ring.gop_start()), (90_000, None));
    }

    #[test]
    fn a_browsers_endless_gop_is_bounded() {
        let mut ring = Ring::new(true);
        for index in 0..20_000 {
            ring.push(packet(index, index == 0));
            assert!(ring.packets.len() <= ANSWERING_PACKETS && ring.bytes <= ANSWERING_BYTES);
        }
        assert_eq!(ring.gop_start(), None, "joining viewers need a new key frame");
        assert!(ring.end() - ring.base() > 300);
    }

    #[test]
    fn is_bounded_without_key_frames() {
        let mut ring = Ring::default();
        ring.push(packet(0, true));
        for index in 1..40_000 {
            ring.push(packet(index, false));
        }
        assert!(ring.packets.len() <= MAX_PACKETS);
        assert_eq!(ring.gop_start(), None);
    }
}
