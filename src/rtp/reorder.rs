//! Puts RTP packets from a lossy path back into order and counts what is missing. Pure: time is an argument.
//! Needed for publishers and WHEP sources; retina delivers in order.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long a missing packet of video is waited for: a retransmission over the usual round trip.
pub const VIDEO_PATIENCE: Duration = Duration::from_millis(250);
/// …and one of sound: browsers retransmit none, so it is only about the order.
pub const AUDIO_PATIENCE: Duration = Duration::from_millis(20);
/// How many packets may wait; a frame of a 4K camera has some hundreds.
const MAX_WAITING: usize = 1024;
/// A packet that is further behind is no late one: where the next one follows on it, the sender has started over
/// (RFC 3550 §A.1).
const MAX_MISORDER: i16 = 1024;

/// See the module documentation. `T` is whatever belongs to a sequence number.
pub struct Reorder<T> {
    next: Option<u64>,
    waiting: BTreeMap<u64, (Instant, T)>,
    patience: Duration,
    /// The number that would follow on one that was far behind.
    restart: Option<u16>,
}

impl<T> Reorder<T> {
    /// Waits so long for what is missing.
    pub fn new(patience: Duration) -> Self {
        Self { next: None, waiting: BTreeMap::new(), patience, restart: None }
    }

    /// Whether the sender has started over with this number, on the same SSRC: a second packet in a row that is far
    /// behind.
    pub fn restarts_at(&mut self, sequence: u16) -> bool {
        let Some(next) = self.next else { return false };
        if sequence.wrapping_sub(next as u16) as i16 >= -MAX_MISORDER {
            self.restart = None;
            return false;
        }
        self.restart.replace(sequence.wrapping_add(1)) == Some(sequence)
    }

    /// Takes one packet; returns those whose turn has come, each with the number that is missing before it.
    pub fn push(&mut self, now: Instant, sequence: u16, item: T) -> Vec<(u16, T)> {
        let mut out = Vec::new();
        let restarted = self.restarts_at(sequence);
        if restarted {
            let waiting = std::mem::take(&mut self.waiting);
            out.extend(waiting.into_values().map(|(_, item)| (1, item)));
            *self = Self::new(self.patience);
        }
        let next = *self.next.get_or_insert(u64::from(sequence) + 0x1_0000);
        let distance = sequence.wrapping_sub(next as u16) as i16;
        let Some(extended) = next.checked_add_signed(i64::from(distance)) else { return out };
        if extended >= next {
            self.waiting.insert(extended, (now, item));
        }
        let ripe = out.len();
        out.extend(self.ripe(now));
        if let Some((lost, _)) = out.get_mut(ripe).filter(|_| restarted) {
            *lost = 1;
        }
        out
    }

    /// The packets that are due, because they are in order or the missing ones have been waited for long enough.
    pub fn ripe(&mut self, now: Instant) -> Vec<(u16, T)> {
        let mut out = Vec::new();
        while let (Some(next), Some((first, (since, _)))) = (self.next, self.waiting.first_key_value()) {
            let lost = first - next;
            let overdue = now.saturating_duration_since(*since) >= self.patience;
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

    fn video<T>() -> Reorder<T> {
        Reorder::new(VIDEO_PATIENCE)
    }

    #[test]
    fn orders_counts_and_gives_up() {
        let now = Instant::now();
        let mut reorder = video();
        assert_eq!(reorder.push(now, 65_534, 'a'), [(0, 'a')]);
        assert_eq!(reorder.push(now, 0, 'c'), []);
        assert_eq!(reorder.push(now, 65_535, 'b'), [(0, 'b'), (0, 'c')]);
        // Late and duplicate packets are dropped.
        assert_eq!(reorder.push(now, 65_535, 'b'), []);
        assert_eq!(reorder.push(now, 4, 'g'), []);
        assert_eq!(reorder.push(now + VIDEO_PATIENCE, 5, 'h'), [(3, 'g'), (0, 'h')]);
    }

    #[test]
    fn sound_does_not_wait_for_what_nobody_sends_again() {
        let now = Instant::now();
        let mut reorder = Reorder::new(AUDIO_PATIENCE);
        reorder.push(now, 1, 'a');
        assert_eq!(reorder.push(now, 3, 'c'), []);
        assert_eq!(reorder.push(now + AUDIO_PATIENCE, 4, 'd'), [(1, 'c'), (0, 'd')]);
    }

    #[test]
    fn holds_only_so_many() {
        let now = Instant::now();
        let mut reorder = video();
        reorder.push(now, 0, 0);
        for sequence in 2..5000u16 {
            reorder.push(now, sequence, 0);
            assert!(reorder.waiting.len() <= MAX_WAITING);
        }
    }

    #[test]
    fn a_sender_that_starts_over_loses_one_packet() {
        let now = Instant::now();
        let mut reorder = video();
        reorder.push(now, 40_000, 'a');
        assert_eq!(reorder.push(now, 40_002, 'c'), []);
        // One stray packet of long ago changes nothing.
        assert_eq!(reorder.push(now, 20_000, '?'), []);
        assert_eq!(reorder.push(now, 40_001, 'b'), [(0, 'b'), (0, 'c')]);
        assert_eq!(reorder.push(now, 40_004, 'e'), []);
        assert_eq!(reorder.push(now, 10_000, '?'), []);
        assert_eq!(reorder.push(now, 10_001, 'x'), [(1, 'e'), (1, 'x')]);
        assert_eq!(reorder.push(now, 10_002, 'y'), [(0, 'y')]);
    }
}
