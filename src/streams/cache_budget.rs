//! The memory that all cached GOPs together may take. A stream reports what it caches; when it is too much, those that
//! nobody has watched for the longest time give up theirs. Start at [`CacheBudget::report`].

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Unless it is configured.
pub const DEFAULT: usize = 512 << 20;

/// See the module.
pub struct CacheBudget {
    limit: usize,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    total: usize,
    /// By the number of the stream: its bytes, and when it was last watched.
    streams: HashMap<u64, (usize, Instant)>,
}

impl Default for CacheBudget {
    fn default() -> Self {
        Self::new(DEFAULT)
    }
}

impl CacheBudget {
    /// With a limit in bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, known: Mutex::default() }
    }

    /// A stream caches so much, and was last watched then. `false`: it must give up its cache. To be called about every
    /// second while it caches anything, and once when it no longer does.
    pub fn report(&self, stream: u64, bytes: usize, watched: Instant) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = &mut *known;
        if let Some((before, _)) = known.streams.remove(&stream) {
            known.total -= before;
        }
        if bytes == 0 {
            return true;
        }
        let excess = (known.total + bytes).saturating_sub(self.limit);
        if excess > 0 {
            let older = known.streams.iter().filter(|(number, (_, at))| (*at, **number) < (watched, stream));
            if older.map(|(_, (bytes, _))| bytes).sum::<usize>() < excess {
                return false;
            }
        }
        known.total += bytes;
        known.streams.insert(stream, (bytes, watched));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn those_not_watched_give_way() {
        let budget = CacheBudget::new(100);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(budget.report(1, 60, at(1)));
        assert!(budget.report(2, 40, at(2)));
        // The third is the newest, so the first has to go, at its next report.
        assert!(budget.report(3, 30, at(3)));
        assert!(budget.report(2, 40, at(2)));
        assert!(!budget.report(1, 60, at(1)));
        assert!(budget.report(3, 30, at(3)));
        // There is room for less.
        assert!(budget.report(1, 30, at(1)));
        // Somebody watches it: now the second is the oldest.
        assert!(budget.report(1, 60, at(4)));
        assert!(!budget.report(2, 40, at(2)));
        assert!(budget.report(2, 0, at(2)));
        assert!(!budget.report(4, 200, at(9)), "more than all");
    }

    #[test]
    fn the_total_stays_within_the_limit_after_some_reports() {
        let budget = CacheBudget::new(1000);
        let start = Instant::now();
        let mut random = 7u64;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        for _ in 0..200 {
            let streams: Vec<_> = (0..20)
                .map(|number| (number, next(200) as usize, start + Duration::from_secs(next(50))))
                .collect();
            let mut kept = 0;
            // One that is admitted relies on an older one to go at that one's next report.
            for round in 0..20 {
                kept = 0;
                for (number, bytes, watched) in &streams {
                    if budget.report(*number, *bytes, *watched) {
                        kept += bytes;
                    }
                }
                assert!(round < 19 || kept <= 1000, "{kept}");
            }
            let all: usize = streams.iter().map(|(_, bytes, _)| bytes).sum();
            assert!(kept == all || kept > 700, "{kept} of {all}");
        }
    }
}
