//! Which video packets are due for a viewer, and when: joining with the cached GOP, pacing it, waiting for key frames.
//! Pure: it moves a cursor over the ring and sends nothing. Start at [`Cursor::due`].

use std::time::{Duration, Instant};

use crate::media::subscribe::ring::Ring;
use crate::streams::spec::ANSWERING_GOP_CACHE;

/// The replayed GOP is spread over this time…
const REPLAY_TIME: Duration = Duration::from_millis(200);
/// …but not slower than this, in bytes per second, because live packets keep arriving meanwhile…
const SLOWEST: f64 = 2e6;
/// …and not faster than this, which receivers' socket buffers were measured to cope with.
const FASTEST: f64 = 5e6;
/// A replay that has not caught up by then (a stream above 40 Mbit/s) is sent without pacing.
const REPLAY_LIMIT: Duration = Duration::from_secs(3);
/// Minimum time between two replays for the same viewer.
const REPLAY_PAUSE: Duration = Duration::from_secs(1);
/// A GOP larger than this is not replayed in response to a key frame request.
const REPLAY_MAX_BYTES: usize = 1 << 20;

/// How large a GOP may be to be replayed to a stream's viewers. For cameras there is no alternative; a source that
/// answers key frame requests delivers one sooner than a long GOP can be replayed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Replays {
    /// Maximum bytes for a viewer that joins.
    pub joining: usize,
    /// Maximum bytes for a viewer that requests a key frame.
    pub asking: usize,
}

impl Replays {
    /// For a camera.
    pub const CAMERA: Self = Self { joining: usize::MAX, asking: REPLAY_MAX_BYTES };

    /// For a source that answers key frame requests: a second or two of video.
    pub fn of_answering(repeatable: bool) -> Self {
        let joining = ANSWERING_GOP_CACHE;
        Self { joining, asking: if repeatable { joining } else { 0 } }
    }
}

/// The response to a key frame request of a viewer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyFrame {
    /// The cached GOP is replayed.
    Replayed,
    /// The source must be asked.
    AskSource,
    /// Nothing to do: a replay or request was made a moment ago, or the source has stopped.
    Pending,
}

/// See the module.
pub struct Cursor {
    state: State,
    pacing: Option<Pacing>,
    last_replay: Option<Instant>,
    replays: Replays,
}

enum State {
    /// Sends nothing until a key frame at or after this index.
    WaitingFrom(u64),
    /// The next packet.
    At(u64),
}

struct Pacing {
    since: Instant,
    /// Bytes that may have been sent by now: `head + rate × time`.
    head: usize,
    rate: f64,
    sent: usize,
}

impl Cursor {
    /// Joins: with the cached GOP if there is one, else at the next key frame.
    pub fn join(ring: &Ring, now: Instant, replays: Replays) -> Self {
        let state = State::WaitingFrom(ring.end());
        let mut cursor = Self { state, pacing: None, last_replay: None, replays };
        let start = ring.gop_start().filter(|start| ring.bytes_from(*start) <= replays.joining);
        if let Some(start) = start {
            cursor.replay(ring, start, now);
        }
        cursor
    }

    fn replay(&mut self, ring: &Ring, start: u64, now: Instant) {
        let total = ring.bytes_from(start);
        let first_frame = ring.frame_end(start);
        let head = total - ring.bytes_from(first_frame);
        let rate = ((total - head) as f64 / REPLAY_TIME.as_secs_f64()).clamp(SLOWEST, FASTEST);
        self.state = State::At(start);
        self.pacing = Some(Pacing { since: now, head, rate, sent: 0 });
        self.last_replay = Some(now);
    }

    /// Whether packets are held back, so that `due` must be called again soon.
    pub fn is_paced(&self) -> bool {
        self.pacing.is_some()
    }

    /// Whether nothing is sent before the next key frame.
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, State::WaitingFrom(_))
    }

    /// Drops everything up to the next key frame, because this viewer cannot keep up.
    pub fn wait_for_key(&mut self, ring: &Ring) {
        self.state = State::WaitingFrom(ring.end());
        self.pacing = None;
    }

    /// Handles a key frame request.
    pub fn key_frame_wanted(&mut self, ring: &Ring, now: Instant) -> KeyFrame {
        let just_now = |at: Instant| now.saturating_duration_since(at) < REPLAY_PAUSE;
        // Chromium sends requests every few seconds while nothing arrives: if the camera has stopped, its old GOP must
        // not be shown again.
        if self.pacing.is_some() || self.last_replay.is_some_and(just_now) || !ring.is_fresh(now) {
            return KeyFrame::Pending;
        }
        match ring.gop_start() {
            Some(start) if !ring.gop_damaged() && ring.bytes_from(start) <= self.replays.asking => {
                self.replay(ring, start, now);
                KeyFrame::Replayed
            }
            _ => {
                self.last_replay = Some(now);
                KeyFrame::AskSource
            }
        }
    }

    /// The packets that may be sent now, as a range of indexes. They count as sent.
    pub fn due(&mut self, ring: &Ring, now: Instant) -> std::ops::Range<u64> {
        let end = ring.end();
        if let State::WaitingFrom(from) = self.state {
            match ring.gop_start() {
                Some(start) if start >= from => self.state = State::At(start),
                _ => return end..end,
            }
        }
        let State::At(mut at) = self.state else { return end..end };
        if at < ring.base() {
            // Too slow: the packets that were due have been evicted.
            self.pacing = None;
            match ring.gop_start() {
                Some(start) => at = start,
                None => {
                    self.state = State::WaitingFrom(end);
                    return end..end;
                }
            }
        }
        let until = self.paced_end(ring, at, now);
        self.state = State::At(until);
        at..until
    }

    fn paced_end(&mut self, ring: &Ring, at: u64, now: Instant) -> u64 {
        let end = ring.end();
        let Some(pacing) = &mut self.pacing else { return end };
        let elapsed = now.saturating_duration_since(pacing.since);
        if elapsed >= REPLAY_LIMIT {
            self.pacing = None;
            return end;
        }
        let allowed = pacing.head + (pacing.rate * elapsed.as_secs_f64()) as usize;
        for index in at..end {
            let size = ring.get(index).map_or(0, |packet| packet.payload.len());
            if pacing.sent + size > allowed {
                return index;
            }
            pacing.sent += size;
        }
        self.pacing = None;
        end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::subscribe::ring::tests::packet;

    fn ring(packets: u64) -> Ring {
        let mut ring = Ring::default();
        (0..packets).for_each(|index| ring.push(packet(index, index == 0)));
        ring
    }

    #[test]
    fn the_key_frame_goes_at_once_and_the_rest_is_paced() {
        let (ring, now) = (ring(600), Instant::now());
        let mut cursor = Cursor::join(&ring, now, Replays::CAMERA);
        assert_eq!(cursor.due(&ring, now), 0..3);
        let half = cursor.due(&ring, now + REPLAY_TIME / 2);
        assert!((290..=310).contains(&half.end), "{half:?}");
        assert!(cursor.is_paced());
        assert_eq!(cursor.due(&ring, now + REPLAY_TIME * 2).end, 600);
        assert!(!cursor.is_paced());
    }

    #[test]
    fn live_packets_queue_behind_the_replay() {
        let (mut ring, now) = (ring(300), Instant::now());
        let mut cursor = Cursor::join(&ring, now, Replays::CAMERA);
        let mut sent = Vec::new();
        for step in 0..60u32 {
            ring.push(packet(300 + u64::from(step), false));
            sent.extend(cursor.due(&ring, now + Duration::from_millis(5) * step));
        }
        assert_eq!(sent, (0..360).collect::<Vec<u64>>());
    }

    #[test]
    fn without_a_cached_gop_it_waits_for_a_key_frame() {
        let now = Instant::now();
        let mut ring = Ring::default();
        (0..5).for_each(|index| ring.push(packet(index, false)));
        let mut cursor = Cursor::join(&ring, now, Replays::CAMERA);
        assert!(cursor.due(&ring, now).is_empty());
        ring.push(packet(5, false));
        assert!(cursor.due(&ring, now).is_empty());
        ring.push(packet(6, true));
        ring.push(packet(7, false));
        assert_eq!(cursor.due(&ring, now), 6..8);
    }

    #[test]
    fn key_frame_requests_are_answered_from_the_cache_once_a_second() {
        let (mut ring, now) = (ring(30), Instant::now());
        let mut cursor = Cursor::join(&ring, now, Replays::CAMERA);
        let later = now + Duration::from_secs(5);
        cursor.due(&ring, later);
        ring.touch(later);
        assert_eq!(cursor.key_frame_wanted(&ring, later), KeyFrame::Replayed);
        assert_eq!(cursor.due(&ring, later).start, 0);
        assert_eq!(cursor.key_frame_wanted(&ring, later), KeyFrame::Pending);
        // A damaged GOP is not replayed.
        ring.push(packet(40, false));
        let much_later = later + Duration::from_secs(5);
        cursor.due(&ring, much_later);
        assert_eq!(cursor.key_frame_wanted(&ring, much_later), KeyFrame::Pending, "the camera has stopped");
        ring.touch(much_later);
        assert_eq!(cursor.key_frame_wanted(&ring, much_later), KeyFrame::AskSource);
    }

    #[test]
    fn a_slow_viewer_goes_on_at_the_next_key_frame() {
        let (mut ring, now) = (ring(30), Instant::now());
        let mut cursor = Cursor::join(&ring, now, Replays::CAMERA);
        cursor.due(&ring, now + REPLAY_TIME * 2);
        cursor.wait_for_key(&ring);
        (30..40).for_each(|index| ring.push(packet(index, false)));
        assert!(cursor.due(&ring, now).is_empty());
        ring.push(packet(40, true));
        assert_eq!(cursor.due(&ring, now), 40..41);
    }

    #[test]
    fn a_viewer_who_fell_out_of_the_ring_is_put_back() {
        let (mut ring, now) = (ring(3), Instant::now());
        let mut cursor = Cursor::join(&ring, now, Replays::CAMERA);
        cursor.due(&ring, now + REPLAY_TIME);
        (3..5000).for_each(|index| ring.push(packet(index, index % 1500 == 0)));
        assert_eq!(cursor.due(&ring, now), 4500..5000);
    }
}
