//! What is logged about a source that fails again and again: a line when it fails, when the reason changes, and each
//! hour; a line when it works again. Pure. Start at [`Outage::failed`].

use std::time::{Duration, Instant};

/// Between two lines about the same outage.
const SUMMARY: Duration = Duration::from_secs(3600);

/// The outages of one source.
#[derive(Debug, Default)]
pub struct Outage {
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    since: Instant,
    code: &'static str,
    told: Instant,
    attempts: u64,
}

/// A line of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Line {
    /// It has failed, or fails for another reason.
    Failed,
    /// It still fails.
    StillFailing {
        /// For how long.
        lasted: Duration,
        /// Attempts since it began.
        attempts: u64,
    },
}

impl Outage {
    /// An attempt has failed with a code: what is to be logged, if anything.
    pub fn failed(&mut self, now: Instant, code: &'static str) -> Option<Line> {
        let Some(current) = &mut self.current else {
            self.current = Some(Current { since: now, code, told: now, attempts: 1 });
            return Some(Line::Failed);
        };
        current.attempts += 1;
        let is_due = now.saturating_duration_since(current.told) >= SUMMARY;
        if current.code != code {
            (current.code, current.told) = (code, now);
            return Some(Line::Failed);
        }
        is_due.then(|| {
            current.told = now;
            let lasted = now.saturating_duration_since(current.since);
            Line::StillFailing { lasted, attempts: current.attempts }
        })
    }

    /// It works: how long it did not.
    pub fn ended(&mut self, now: Instant) -> Option<Duration> {
        self.current.take().map(|current| now.saturating_duration_since(current.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_camera_that_is_off_for_a_day_is_few_lines() {
        let start = Instant::now();
        let mut outage = Outage::default();
        assert_eq!(outage.ended(start), None);
        assert_eq!(outage.failed(start, "camera_unreachable"), Some(Line::Failed));
        let lines = (1..=24 * 120).filter_map(|attempt| {
            let now = start + Duration::from_secs(30) * attempt;
            outage.failed(now, "camera_unreachable")
        });
        let lines: Vec<Line> = lines.collect();
        assert_eq!(lines.len(), 24);
        let hour = Line::StillFailing { lasted: Duration::from_secs(3600), attempts: 121 };
        assert_eq!(lines[0], hour);
        let end = start + Duration::from_secs(86_430);
        assert_eq!(outage.ended(end), Some(Duration::from_secs(86_430)));
        assert_eq!(outage.failed(end, "camera_unreachable"), Some(Line::Failed), "it is the next outage");
    }

    #[test]
    fn another_reason_is_told() {
        let start = Instant::now();
        let mut outage = Outage::default();
        outage.failed(start, "camera_unreachable");
        assert_eq!(outage.failed(start, "camera_login"), Some(Line::Failed));
        assert_eq!(outage.failed(start, "camera_login"), None);
    }
}
