//! A token bucket: how often something may happen, sustained and at once. Pure: time is an argument.
//! HTTP requests, which are counted for each address, have `governor` instead.

use std::time::{Duration, Instant};

/// See the module.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    tokens: f64,
    burst: f64,
    per_second: f64,
    at: Option<Instant>,
}

impl TokenBucket {
    /// A full bucket of `burst` tokens that gets `count` new ones every `period`.
    pub fn new(burst: u32, count: u32, period: Duration) -> Self {
        let per_second = f64::from(count) / period.as_secs_f64();
        Self { tokens: f64::from(burst), burst: f64::from(burst), per_second, at: None }
    }

    /// Takes a token if there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        self.refill(now);
        let may = self.tokens >= 1.0;
        if may {
            self.tokens -= 1.0;
        }
        may
    }

    /// How long until there is a token: zero if there is one.
    pub fn wait(&mut self, now: Instant) -> Duration {
        self.refill(now);
        Duration::from_secs_f64(((1.0 - self.tokens) / self.per_second).max(0.0))
    }

    /// Whether it is full: as good as a new one.
    pub fn is_full(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.tokens >= self.burst
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = self.at.map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64());
        self.at = Some(now);
        self.tokens = (self.tokens + elapsed * self.per_second).min(self.burst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut bucket = TokenBucket::new(3, 2, Duration::from_secs(1));
        let taken = (0..5).filter(|_| bucket.take(at(0))).count();
        assert_eq!((taken, bucket.wait(at(0))), (3, Duration::from_millis(500)));
        assert!(!bucket.take(at(499)) && bucket.take(at(500)) && !bucket.take(at(501)));
        // A clock that stands still or an hour: never more than the burst.
        let later = at(3_600_000);
        assert!(bucket.is_full(later));
        assert_eq!((0..9).filter(|_| bucket.take(later)).count(), 3);
    }
}
