//! When to retry a source. Pure: time and randomness are arguments. Start at [`Backoff`].

use std::time::{Duration, Instant};

/// How likely a retry is to succeed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hope {
    /// It may work at any moment: half a second, doubling up to half a minute.
    Soon,
    /// It cannot be reached, as while it restarts; an attempt costs next to nothing. As `Soon`, but up to a second only
    /// while somebody waits.
    Away,
    /// It needs operator action (a wrong password, a wrong codec): a minute, doubling up to ten. Many cameras lock
    /// the account after repeated attempts with a wrong password.
    Slowly,
}

impl Hope {
    fn bounds(self, awaited: bool) -> (Duration, Duration) {
        match self {
            Self::Away if awaited => (Duration::from_millis(500), Duration::from_secs(1)),
            Self::Soon | Self::Away => (Duration::from_millis(500), Duration::from_secs(30)),
            Self::Slowly => (Duration::from_secs(60), Duration::from_secs(600)),
        }
    }

    /// Minimum time between a failed attempt and a retry triggered by a new viewer.
    fn patience(self) -> Duration {
        match self {
            Self::Soon | Self::Away => Duration::from_millis(500),
            Self::Slowly => Duration::from_secs(30),
        }
    }
}

/// A connection that has been live for this long resets the back-off. One that ends sooner may be a camera that restarts
/// because of us.
const STEADY: Duration = Duration::from_secs(3);

/// See the module documentation.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
    last: Option<(Instant, Hope)>,
}

impl Backoff {
    /// Returns the time of the next attempt, after one failed that had been live for `lived`. `awaited`: somebody wants
    /// to watch. `random` is in 0..1.
    pub fn failed(
        &mut self,
        now: Instant,
        (hope, awaited): (Hope, bool),
        lived: Duration,
        random: f64,
    ) -> Instant {
        let changed = self.last.is_some_and(|(_, last)| last != hope);
        if lived >= STEADY || changed {
            self.failures = 0;
        }
        let (least, most) = hope.bounds(awaited);
        let delay = least.saturating_mul(1 << self.failures.min(10)).min(most);
        self.failures = self.failures.saturating_add(1);
        self.last = Some((now, hope));
        // Jitter: three quarters to all of the delay, so that cameras behind one switch do not retry in step.
        now + delay.mul_f64(0.75 + 0.25 * random.clamp(0.0, 1.0))
    }

    /// The earliest next attempt once a viewer has arrived.
    pub fn hurried(&self, now: Instant) -> Instant {
        match self.last {
            Some((at, hope)) => now.max(at + hope.patience()),
            None => now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_and_are_bounded() {
        let now = Instant::now();
        let mut backoff = Backoff::default();
        let mut delays = Vec::new();
        for _ in 0..9 {
            delays.push((backoff.failed(now, (Hope::Soon, true), Duration::ZERO, 1.0) - now).as_millis());
        }
        assert_eq!(delays, [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]);
        assert_eq!(backoff.failed(now, (Hope::Soon, true), STEADY, 0.0) - now, Duration::from_millis(375));
    }

    #[test]
    fn who_waits_sees_a_camera_that_has_restarted_within_a_second() {
        let now = Instant::now();
        let mut backoff = Backoff::default();
        let mut delays = |awaited| {
            let delays =
                (0..8).map(|_| backoff.failed(now, (Hope::Away, awaited), Duration::ZERO, 1.0) - now);
            delays.map(|delay| delay.as_millis()).collect::<Vec<_>>()
        };
        assert_eq!(delays(true), [500, 1000, 1000, 1000, 1000, 1000, 1000, 1000]);
        assert_eq!(delays(false), [30000; 8]);
        assert_eq!(delays(true), [1000; 8]);
    }

    #[test]
    fn a_wrong_password_is_not_hammered() {
        let now = Instant::now();
        let mut backoff = Backoff::default();
        let next = backoff.failed(now, (Hope::Slowly, true), Duration::ZERO, 0.0);
        assert!(next - now >= Duration::from_secs(45));
        // However often viewers arrive, the camera sees at most one attempt every half minute.
        assert_eq!(backoff.hurried(now) - now, Duration::from_secs(30));
        let later = now + Duration::from_secs(40);
        assert_eq!(backoff.hurried(later), later);
    }

    #[test]
    fn a_viewer_hurries_an_ordinary_failure() {
        let now = Instant::now();
        let mut backoff = Backoff::default();
        assert_eq!(backoff.hurried(now), now);
        for _ in 0..8 {
            backoff.failed(now, (Hope::Soon, true), Duration::ZERO, 0.5);
        }
        assert_eq!(backoff.hurried(now) - now, Duration::from_millis(500));
    }
}
