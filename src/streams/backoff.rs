//! When to try a source again. Pure: time and randomness are arguments.

use std::time::{Duration, Instant};

/// How hopeful another try is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hope {
    /// It may work any moment: half a second, doubling up to half a minute.
    Soon,
    /// Only a person can mend it (a wrong password, a wrong codec): a minute, doubling up to ten. Trying a
    /// password again and again locks the account of many cameras.
    Slowly,
}

impl Hope {
    fn bounds(self) -> (Duration, Duration) {
        match self {
            Self::Soon => (Duration::from_millis(500), Duration::from_secs(30)),
            Self::Slowly => (Duration::from_secs(60), Duration::from_secs(600)),
        }
    }

    /// How long a viewer who arrives must wait for another try after the last one failed.
    fn patience(self) -> Duration {
        match self {
            Self::Soon => Duration::from_millis(500),
            Self::Slowly => Duration::from_secs(30),
        }
    }
}

/// A connection that lasted this long starts the delays over.
const STEADY: Duration = Duration::from_secs(20);

/// See the module.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
    last: Option<(Instant, Hope)>,
}

impl Backoff {
    /// A try failed after the source had been live for `lived`: when is the next one? `random` is in 0..1.
    pub fn failed(&mut self, now: Instant, hope: Hope, lived: Duration, random: f64) -> Instant {
        let changed = self.last.is_some_and(|(_, last)| last != hope);
        if lived >= STEADY || changed {
            self.failures = 0;
        }
        let (least, most) = hope.bounds();
        let delay = least.saturating_mul(1 << self.failures.min(10)).min(most);
        self.failures = self.failures.saturating_add(1);
        self.last = Some((now, hope));
        // Between three quarters and all of it, so that cameras behind one switch do not come back in step.
        now + delay.mul_f64(0.75 + 0.25 * random.clamp(0.0, 1.0))
    }

    /// A viewer has arrived: the earliest next try.
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
            delays.push((backoff.failed(now, Hope::Soon, Duration::ZERO, 1.0) - now).as_millis());
        }
        assert_eq!(delays, [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]);
        assert_eq!(backoff.failed(now, Hope::Soon, STEADY, 0.0) - now, Duration::from_millis(375));
    }

    #[test]
    fn a_wrong_password_is_not_hammered() {
        let now = Instant::now();
        let mut backoff = Backoff::default();
        let next = backoff.failed(now, Hope::Slowly, Duration::ZERO, 0.0);
        assert!(next - now >= Duration::from_secs(45));
        // Viewers come and go: the camera sees a try every half minute at most.
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
            backoff.failed(now, Hope::Soon, Duration::ZERO, 0.5);
        }
        assert_eq!(backoff.hurried(now) - now, Duration::from_millis(500));
    }
}
