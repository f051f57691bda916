//! Reorders RTP packets from a lossy path and counts missing ones. Pure: time is an argument. Needed for WHEP sources;
//! retina delivers in order. Start at [`Reorder::push`].

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long to wait for a missing packet: enough for a retransmission at usual round-trip times.
const PATIENCE: Duration = Duration::from_millis(250);
/// Maximum number of waiting packets; a frame of a 4K camera has a few hundred.
const MAX_WAITING: usize = 1024;

/// See the module documentation. `T` is whatever belongs to a sequence number.
pub struct Reorder<T> {
    next: Option<u64>,
    waiting: BTreeMap<u64, (Instant, T)>,
}

impl<T> Default for Reorder<T> {
    fn default() -> Self {
        Self { next: None, waiting: BTreeMap::new() }
    }
}

impl<T> Reorder<T> {
    /// Adds one packet; returns those that are now due, each with the number of packets missing before it.
    pub fn push(&mut self, now: Instant, sequence: u16, item: T) -> Vec<(u16, T)> {
        let next = *self.next.get_or_insert(u64::from(sequence) + 0x1_0000);
        let distance = sequence.wrapping_sub(next as u16) as i16;
        let Some(extended) = next.checked_add_signed(i64::from(distance)) else { return Vec::new() };
        if extended >= next {
            self.waiting.insert(extended, (now, item));
        }
        self.ripe(now)
    }

    /// The packets that are due, because they are in order or the missing ones have been waited for long enough.
    pub fn ripe(&mut self, now: Instant) -> Vec<(u16, T)> {
        let mut out = Vec::new();
        while let (Some(next), Some((first, (since, _)))) = (self.next, self.waiting.first_key_value()) {
            let lost = first - next;
            let overdue = now.saturating_duration_since(*since) >= PATIENCE;
            let crowded = self.waiting.len() >= MAX_WAITING;
            if lost > 0 && !overdue && !crowded {
                break;
            }
            let Some((sequence, (_, item))) = self.waiting.pop_first() else { break };
            self.next = Some(sequence + 1);
            out.push((u16::try_from(lost).unwrap_or(u16::MAX), item));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_counts_and_gives_up() {
        let now = Instant::now();
        let mut reorder = Reorder::default();
        assert_eq!(reorder.push(now, 65_534, 'a'), [(0, 'a')]);
        assert_eq!(reorder.push(now, 0, 'c'), []);
        assert_eq!(reorder.push(now, 65_535, 'b'), [(0, 'b'), (0, 'c')]);
        // Late and duplicate packets are dropped.
        assert_eq!(reorder.push(now, 65_535, 'b'), []);
        assert_eq!(reorder.push(now, 4, 'g'), []);
        assert_eq!(reorder.push(now + PATIENCE, 5, 'h'), [(3, 'g'), (0, 'h')]);
    }

    #[test]
    fn holds_only_so_many() {
        let now = Instant::now();
        let mut reorder = Reorder::default();
        reorder.push(now, 0, 0);
        for sequence in 2..5000u16 {
            reorder.push(now, sequence, 0);
            assert!(reorder.waiting.len() <= MAX_WAITING);
        }
    }
}
