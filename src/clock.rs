//! Time, on machines whose clock is wrong: without a battery they start in 1970, and a wrong time server or a typing error
//! leads to 2036. [`Clock`] is the time that accounts use: it never runs before the time of the build, and when the
//! machine's clock jumps, it goes on as before until what depends on it has been adjusted. [`Agreement`] tells whether the
//! machine's clock can be trusted to delete by. Start at [`Clock::now`].

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// For so long the wall clock must have run like the monotonic one.
const PROBATION: Duration = Duration::from_secs(3600);
/// A larger difference between two looks is a jump. NTP slews by less.
const JUMP: Duration = Duration::from_secs(60);

/// A step of the machine's clock: what it says now, and what it would say without the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The time without the step.
    pub from: SystemTime,
    /// What the machine's clock says.
    pub to: SystemTime,
}

impl Step {
    /// By how much the clock was set forward, in milliseconds; negative if it was set back.
    pub fn millis(self) -> i64 {
        let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        match self.to.duration_since(self.from) {
            Ok(forward) => millis(forward),
            Err(back) => -millis(back.duration()),
        }
    }
}

/// The pure part of [`Clock`]: one moment by both clocks, from which on it counts. `ticks` is a clock that only runs
/// forward, and also while the machine sleeps; `wall` is the machine's clock.
#[derive(Clone, Copy, Debug)]
struct Timeline {
    ticks: Duration,
    wall: SystemTime,
    built: SystemTime,
}

impl Timeline {
    fn new(ticks: Duration, wall: SystemTime, built: SystemTime) -> Self {
        Self { ticks, wall: wall.max(built), built }
    }

    fn expected(&self, ticks: Duration) -> SystemTime {
        self.wall + ticks.saturating_sub(self.ticks)
    }

    /// The current time. Follows small corrections of the machine's clock.
    fn now(&mut self, ticks: Duration, wall: SystemTime) -> SystemTime {
        let expected = self.expected(ticks);
        if wall < self.built || difference(wall, expected) > JUMP {
            return expected;
        }
        *self = Self { ticks, wall, ..*self };
        wall
    }

    fn step(&self, ticks: Duration, wall: SystemTime) -> Option<Step> {
        let from = self.expected(ticks);
        (wall >= self.built && difference(wall, from) > JUMP).then_some(Step { from, to: wall })
    }
}

fn difference(one: SystemTime, other: SystemTime) -> Duration {
    one.duration_since(other).unwrap_or_else(|error| error.duration())
}

/// The current time. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Clock {
    timeline: Arc<Mutex<Timeline>>,
}

impl Default for Clock {
    fn default() -> Self {
        let timeline = Timeline::new(ticks(), SystemTime::now(), built());
        Self { timeline: Arc::new(Mutex::new(timeline)) }
    }
}

impl Clock {
    /// The current time, which does not jump.
    pub fn now(&self) -> SystemTime {
        self.lock().now(ticks(), SystemTime::now())
    }

    /// A step of the machine's clock that has not been adopted yet.
    pub fn step(&self) -> Option<Step> {
        self.lock().step(ticks(), SystemTime::now())
    }

    /// Follows the machine's clock after a step.
    pub fn adopt(&self) {
        *self.lock() = Timeline::new(ticks(), SystemTime::now(), built());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Timeline> {
        self.timeline.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When the program was built.
pub fn built() -> SystemTime {
    let seconds = env!("GATEHOUSE_BUILT").parse().unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// Time since the machine was started, including sleep, which [`Instant`] leaves out.
fn ticks() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Compares the wall clock with the monotonic clock.
#[derive(Debug)]
pub struct Agreement {
    since: Instant,
    last: (Instant, SystemTime),
}

impl Agreement {
    /// Begins to compare.
    pub fn new(now: Instant, wall: SystemTime) -> Self {
        Self { since: now, last: (now, wall) }
    }

    /// Takes another look; whether the clocks have agreed for an hour.
    pub fn holds(&mut self, now: Instant, wall: SystemTime) -> bool {
        let expected = self.last.1 + now.saturating_duration_since(self.last.0);
        self.last = (now, wall);
        if difference(wall, expected) > JUMP {
            self.since = now;
        }
        now.saturating_duration_since(self.since) >= PROBATION
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_through_a_jump_until_it_is_adopted() {
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let seconds = Duration::from_secs;
        let built = 1_000_000;
        let mut timeline = Timeline::new(seconds(5), at(100), at(built));
        // The machine's clock is before the build: there is no other time than our own.
        assert_eq!(timeline.now(seconds(5), at(100)), at(built));
        assert_eq!(timeline.now(seconds(3605), at(3700)), at(built + 3600));
        assert_eq!(timeline.step(seconds(3605), at(3700)), None);
        // It is set right.
        let step = timeline.step(seconds(3605), at(5_000_000)).unwrap();
        assert_eq!(step.millis(), (5_000_000 - built as i64 - 3600) * 1000);
        assert_eq!(timeline.now(seconds(3605), at(5_000_000)), at(built + 3600));
        timeline = Timeline::new(seconds(3605), at(5_000_000), at(built));
        assert_eq!(timeline.now(seconds(3606), at(5_000_001)), at(5_000_001));
        // Small corrections are followed.
        assert_eq!(timeline.now(seconds(3607), at(5_000_012)), at(5_000_012));
        assert_eq!(timeline.step(seconds(3607), at(5_000_012)), None);
        // And back.
        let back = timeline.step(seconds(3607), at(4_000_012)).unwrap();
        assert_eq!(back.millis(), -1_000_000_000);
        assert_eq!(timeline.now(seconds(3617), at(4_000_022)), at(5_000_022));
    }

    #[test]
    fn the_clock_of_this_machine() {
        let clock = Clock::default();
        assert!(difference(clock.now(), SystemTime::now()) < JUMP);
        assert_eq!(clock.step(), None);
        assert!(built() > SystemTime::UNIX_EPOCH && built() <= SystemTime::now());
    }

    #[test]
    fn an_hour_without_a_jump() {
        let (start, wall) = (Instant::now(), SystemTime::now());
        let minute = |count| Duration::from_secs(60) * count;
        let year = minute(60 * 24 * 365);
        // Wall clock ahead of the monotonic clock by this, at each look.
        let table = [
            (0, Duration::ZERO, false),
            (30, Duration::ZERO, false),
            (60, Duration::ZERO, true),
            (70, 10 * year, false),
            (100, 10 * year, false),
            (130, 10 * year + Duration::from_secs(2), true),
            (140, Duration::ZERO, false),
            (200, Duration::ZERO, true),
        ];
        let mut agreement = Agreement::new(start, wall);
        for (after, ahead, expected) in table {
            let holds = agreement.holds(start + minute(after), wall + minute(after) + ahead);
            assert_eq!(holds, expected, "after {after} minutes");
        }
    }
}
