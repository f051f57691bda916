//! Times frames by their arrival if the camera's own time stamps are useless: constant, or of a clock that runs at
//! another speed than RTP prescribes (RFC 6184 §8.2.1: 90 kHz). Pure. Start at [`Pace::timestamp`].

use std::time::{Duration, Instant};

use super::packet::VIDEO_CLOCK;

/// Time stamps are judged over at least this time…
const WINDOW: Duration = Duration::from_secs(2);
/// …and this many frames.
const FRAMES: u32 = 10;
/// How fast they may run compared with our clock. Nothing exact: some cameras send what they have buffered first.
const PLAUSIBLE: std::ops::RangeInclusive<f64> = 0.5..=2.0;
/// After so many implausible windows in a row the camera's time stamps are no longer used.
const IMPLAUSIBLE: u32 = 2;

/// See the module. For one connection of a camera.
#[derive(Default)]
pub struct Pace {
    /// The time stamps are known to be right.
    trusts: bool,
    window: Option<Window>,
    implausible: u32,
    /// The time stamp of the last packet as the camera sent it, and whether it ended its frame.
    last: Option<(u32, bool)>,
    arrival: Option<Arrival>,
}

struct Window {
    since: Instant,
    timestamp: u32,
    frames: u32,
}

struct Arrival {
    since: Instant,
    base: u32,
    current: u32,
}

impl Pace {
    /// One that leaves all time stamps as they are.
    pub fn never() -> Self {
        Self { trusts: true, ..Self::default() }
    }

    /// The time stamp to use for a packet; that of the camera if it is plausible.
    pub fn timestamp(&mut self, now: Instant, given: u32, marker: bool) -> u32 {
        if self.trusts {
            return given;
        }
        let begins = self.last.is_none_or(|(before, ended)| ended || before != given);
        self.last = Some((given, marker));
        if begins && self.arrival.is_none() {
            self.judge(now, given);
        }
        let Some(arrival) = &mut self.arrival else { return given };
        if begins {
            let ticks = now.saturating_duration_since(arrival.since).as_secs_f64() * f64::from(VIDEO_CLOCK);
            let next = arrival.base.wrapping_add(ticks as u64 as u32);
            // Two frames that arrive together are still two frames.
            let is_later = (next.wrapping_sub(arrival.current) as i32) > 0;
            arrival.current = if is_later { next } else { arrival.current.wrapping_add(1) };
        }
        arrival.current
    }

    /// Whether the camera's time stamps are not used.
    pub fn is_by_arrival(&self) -> bool {
        self.arrival.is_some()
    }

    fn judge(&mut self, now: Instant, given: u32) {
        let Some(window) = &mut self.window else {
            self.window = Some(Window { since: now, timestamp: given, frames: 0 });
            return;
        };
        window.frames += 1;
        let elapsed = now.saturating_duration_since(window.since);
        if elapsed < WINDOW || window.frames < FRAMES {
            return;
        }
        let advance = given.wrapping_sub(window.timestamp) as i32;
        let speed = f64::from(advance) / f64::from(VIDEO_CLOCK) / elapsed.as_secs_f64();
        self.implausible = match advance {
            0 => IMPLAUSIBLE,
            _ if PLAUSIBLE.contains(&speed) => 0,
            _ => self.implausible + 1,
        };
        self.window = Some(Window { since: now, timestamp: given, frames: 0 });
        if self.implausible >= IMPLAUSIBLE {
            self.arrival = Some(Arrival { since: now, base: given, current: given });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `frames` of two packets each, 40 ms apart, with these time stamps; returns those of the frames.
    fn feed(
        pace: &mut Pace,
        start: Instant,
        numbers: std::ops::Range<u32>,
        given: impl Fn(u32) -> u32,
    ) -> Vec<u32> {
        numbers
            .map(|number| {
                let now = start + Duration::from_millis(40) * number;
                let first = pace.timestamp(now, given(number), false);
                let second = pace.timestamp(now + Duration::from_millis(1), given(number), true);
                assert_eq!(first, second, "one frame, one time stamp");
                first
            })
            .collect()
    }

    #[test]
    fn good_time_stamps_are_used() {
        let start = Instant::now();
        for given in [
            |number: u32| number * 3600,
            // 20 % too fast, beginning just before the 32 bits wrap around.
            |number: u32| (u32::MAX - 10_000).wrapping_add(number * 4320),
            // What was buffered comes first.
            |number: u32| (number + 100.min(number * 10)) * 3600,
            // The clock is set once.
            |number: u32| if number > 60 { number * 3600 + 7_000_000 } else { number * 3600 },
        ] {
            let mut pace = Pace::default();
            let out = feed(&mut pace, start, 0..500, given);
            assert_eq!(out, (0..500).map(given).collect::<Vec<_>>());
            assert!(!pace.is_by_arrival());
        }
    }

    #[test]
    fn useless_time_stamps_are_replaced() {
        let start = Instant::now();
        for given in [
            |_: u32| 77,
            // Milliseconds instead of 90 kHz.
            |number: u32| number * 40,
            // Backwards.
            |number: u32| 1_000_000_000 - number * 3600,
            // Ten times too fast.
            |number: u32| number * 36_000,
        ] {
            let mut pace = Pace::default();
            feed(&mut pace, start, 0..300, given);
            assert!(pace.is_by_arrival());
            let out = feed(&mut pace, start, 300..400, given);
            let steps: Vec<u32> = out.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect();
            assert!(steps.iter().all(|step| (3590..=3610).contains(step)), "{steps:?}");
        }
    }

    #[test]
    fn a_slow_camera_is_judged_after_enough_frames() {
        let (start, mut pace) = (Instant::now(), Pace::default());
        for number in 0..40u32 {
            let now = start + Duration::from_secs(5) * number;
            assert_eq!(pace.timestamp(now, number * 450_000, true), number * 450_000);
        }
        assert!(!pace.is_by_arrival());
    }

    #[test]
    fn frames_that_arrive_together_keep_apart() {
        let (start, mut pace) = (Instant::now(), Pace::default());
        feed(&mut pace, start, 0..300, |_| 5);
        let now = start + Duration::from_secs(60);
        let both = [pace.timestamp(now, 5, true), pace.timestamp(now, 5, true)];
        assert_eq!(both[1].wrapping_sub(both[0]), 1);
    }
}
