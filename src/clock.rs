//! Whether the wall clock can be trusted to delete by. A machine without a battery starts in 1970, a wrong time server or
//! a typing error leads to 2036. Pure. Start at [`Agreement::holds`].

use std::time::{Duration, Instant, SystemTime};

/// For so long the wall clock must have run like the monotonic one.
const PROBATION: Duration = Duration::from_secs(3600);
/// A larger difference between two looks is a jump. NTP slews by less.
const JUMP: Duration = Duration::from_secs(60);

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
        let difference = match wall.duration_since(expected) {
            Ok(later) => later,
            Err(earlier) => earlier.duration(),
        };
        self.last = (now, wall);
        if difference > JUMP {
            self.since = now;
        }
        now.saturating_duration_since(self.since) >= PROBATION
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
