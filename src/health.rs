//! What is wrong with the server as a whole, such as a full disk or a proxy that is set up wrong: shown to
//! administrators on every page, and by `GET /ready`. Problems of one camera or one call are elsewhere. Whoever notices
//! a problem reports it and reports its end; a problem that has no end of its own expires. Start at [`Health`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// All kinds of problems. The pages have a text for each: `tests/browser/check-texts.js` compares.
pub const CODES: [&str; 10] = [
    "disk_full",
    "disk_failed",
    "data_lost",
    "clock_wrong",
    "authority_invalid",
    "proxy_host",
    "proxy_untrusted",
    "proxy_plain",
    "proxy_protocol_untrusted",
    "websocket",
];

/// A problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Its kind; pages have a text for each.
    pub code: &'static str,
    /// What was seen: a path, an address or a system's message. Never a secret.
    pub detail: String,
    /// Whether the server cannot do all of its work.
    pub severity: Severity,
    /// When it was first reported.
    pub since: SystemTime,
    expires: Option<Instant>,
}

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The server works, but not as somebody expects.
    Warning,
    /// The server cannot do all of its work: `GET /ready` fails.
    Error,
}

/// The current problems. Cheap to clone.
#[derive(Clone, Default)]
pub struct Health {
    problems: Arc<Mutex<BTreeMap<&'static str, Problem>>>,
}

impl Health {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Problem>> {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reports a problem until [`Self::end`]; whether it is new.
    pub fn begin(&self, code: &'static str, severity: Severity, detail: &str) -> bool {
        self.report(code, severity, detail, None)
    }

    /// Reports a problem that counts as over if it is not reported again for this long; whether it is new.
    pub fn report_for(&self, code: &'static str, severity: Severity, detail: &str, life: Duration) -> bool {
        self.report(code, severity, detail, Some(Instant::now() + life))
    }

    fn report(&self, code: &'static str, severity: Severity, detail: &str, expires: Option<Instant>) -> bool {
        debug_assert!(CODES.contains(&code), "{code} is none of the codes");
        let mut problems = self.lock();
        problems.retain(|_, problem| !problem.has_expired());
        if let Some(known) = problems.get_mut(code) {
            detail.clone_into(&mut known.detail);
            known.expires = expires;
            return false;
        }
        let detail = detail.to_owned();
        problems.insert(code, Problem { code, detail, severity, since: SystemTime::now(), expires });
        true
    }

    /// A problem is over; whether it was known.
    pub fn end(&self, code: &'static str) -> bool {
        self.lock().remove(code).is_some_and(|problem| !problem.has_expired())
    }

    /// The current problems, by code.
    pub fn problems(&self) -> Vec<Problem> {
        self.lock().values().filter(|problem| !problem.has_expired()).cloned().collect()
    }

    /// Whether there is this problem.
    pub fn has(&self, code: &str) -> bool {
        self.lock().get(code).is_some_and(|problem| !problem.has_expired())
    }
}

impl Problem {
    fn has_expired(&self) -> bool {
        self.expires.is_some_and(|expires| expires <= Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_new_once_and_ends() {
        let health = Health::default();
        assert!(health.begin("disk_full", Severity::Error, "/data"));
        assert!(!health.begin("disk_full", Severity::Error, "/data: again"));
        let problems = health.problems();
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].detail, "/data: again");
        assert!(health.end("disk_full"));
        assert!(!health.end("disk_full"));
        assert!(health.problems().is_empty());
    }

    #[test]
    fn what_is_not_reported_again_expires() {
        let health = Health::default();
        assert!(health.report_for("proxy_host", Severity::Warning, "x", Duration::ZERO));
        assert!(health.problems().is_empty());
        assert!(health.report_for("proxy_host", Severity::Warning, "x", Duration::from_secs(3600)));
        assert!(health.has("proxy_host"));
    }
}
