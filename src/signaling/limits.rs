//! How often somebody may be bothered: invitations to calls, repeated entries of missed calls, and asking again to
//! watch after a refusal. Pure; the core owns it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::token_bucket::TokenBucket;

/// Invitations of one person in a minute: to one other, and in all.
const INVITATIONS_TO_ONE: u32 = 12;
const INVITATIONS: u32 = 60;
/// Missed calls of one person by another within this time are one entry of the history.
const SAME_MISSED: Duration = Duration::from_secs(60);
/// How long a watcher waits after the first, the second and each later refusal.
const REFUSAL_WAITS: [Duration; 3] =
    [Duration::from_secs(10), Duration::from_secs(60), Duration::from_secs(600)];
/// Refusals are forgotten after this time.
const REFUSAL_MEMORY: Duration = Duration::from_secs(3600);

/// Two login names: who does something, and to whom.
type Pair = (String, String);

/// See the module. Entries are forgotten once they limit nothing any more.
#[derive(Debug, Default)]
pub struct Limits {
    invitations: BTreeMap<String, TokenBucket>,
    invitations_to: BTreeMap<Pair, TokenBucket>,
    missed: BTreeMap<Pair, Instant>,
    refusals: BTreeMap<Pair, Refusals>,
}

#[derive(Debug)]
struct Refusals {
    count: usize,
    last: Instant,
}

impl Refusals {
    fn until(&self) -> Instant {
        self.last + REFUSAL_WAITS[self.count.clamp(1, REFUSAL_WAITS.len()) - 1]
    }
}

fn per_minute(count: u32) -> TokenBucket {
    TokenBucket::new(count, count, Duration::from_secs(60))
}

impl Limits {
    /// Somebody invites somebody.
    ///
    /// # Errors
    /// How long to wait.
    pub fn invite(&mut self, now: Instant, caller: &str, callee: &str) -> Result<(), Duration> {
        let all = self.invitations.entry(caller.to_owned()).or_insert_with(|| per_minute(INVITATIONS));
        let pair = (caller.to_owned(), callee.to_owned());
        let one = self.invitations_to.entry(pair).or_insert_with(|| per_minute(INVITATIONS_TO_ONE));
        let wait = all.wait(now).max(one.wait(now));
        if !wait.is_zero() {
            return Err(wait);
        }
        all.take(now);
        one.take(now);
        Ok(())
    }

    /// Whether a missed call is worth an entry of its own.
    pub fn is_new_missed(&mut self, now: Instant, caller: &str, callee: &str) -> bool {
        let pair = (caller.to_owned(), callee.to_owned());
        let recent = |at: &Instant| now.saturating_duration_since(*at) < SAME_MISSED;
        let new = !self.missed.get(&pair).is_some_and(recent);
        if new {
            self.missed.insert(pair, now);
        }
        new
    }

    /// A watcher was refused.
    pub fn refused(&mut self, now: Instant, watcher: &str, user: &str) {
        let pair = (watcher.to_owned(), user.to_owned());
        let refusals = self.refusals.entry(pair).or_insert(Refusals { count: 0, last: now });
        refusals.count += 1;
        refusals.last = now;
    }

    /// A watcher was allowed: earlier refusals count no longer.
    pub fn allowed(&mut self, watcher: &str, user: &str) {
        self.refusals.remove(&(watcher.to_owned(), user.to_owned()));
    }

    /// Whether a watcher may ask.
    ///
    /// # Errors
    /// How long to wait.
    pub fn ask(&self, now: Instant, watcher: &str, user: &str) -> Result<(), Duration> {
        let refusals = self.refusals.get(&(watcher.to_owned(), user.to_owned()));
        let wait = refusals.map_or(Duration::ZERO, |past| past.until().saturating_duration_since(now));
        if wait.is_zero() { Ok(()) } else { Err(wait) }
    }

    /// Forgets what limits nothing any more.
    pub fn forget(&mut self, now: Instant) {
        self.invitations.retain(|_, bucket| !bucket.is_full(now));
        self.invitations_to.retain(|_, bucket| !bucket.is_full(now));
        self.missed.retain(|_, at| now.saturating_duration_since(*at) < SAME_MISSED);
        self.refusals.retain(|_, past| now.saturating_duration_since(past.last) < REFUSAL_MEMORY);
    }

    /// How much is remembered.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.invitations.len() + self.invitations_to.len() + self.missed.len() + self.refusals.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invitations_are_limited_to_one_and_in_all() {
        let (mut limits, now) = (Limits::default(), Instant::now());
        let to_bert = (0..30).filter(|_| limits.invite(now, "anna", "bert").is_ok()).count();
        let to_many = (0..99).filter(|n| limits.invite(now, "anna", &format!("u{n}")).is_ok()).count();
        assert_eq!((to_bert, to_many), (12, 48));
        assert!(limits.invite(now, "carl", "bert").is_ok(), "others are not concerned");
        let wait = limits.invite(now, "anna", "bert").unwrap_err();
        assert_eq!(wait, Duration::from_secs(5));
        assert!(limits.invite(now + wait, "anna", "bert").is_ok());
        limits.forget(now + Duration::from_secs(120));
        assert_eq!(limits.len(), 0);
    }

    #[test]
    fn refusals_make_the_next_question_wait() {
        let (mut limits, mut now) = (Limits::default(), Instant::now());
        for seconds in [10, 60, 600, 600] {
            assert_eq!(limits.ask(now, "anna", "bert"), Ok(()));
            limits.refused(now, "anna", "bert");
            assert_eq!(limits.ask(now, "anna", "bert"), Err(Duration::from_secs(seconds)));
            now += Duration::from_secs(seconds);
        }
        limits.allowed("anna", "bert");
        limits.refused(now, "anna", "bert");
        assert_eq!(limits.ask(now, "anna", "bert"), Err(Duration::from_secs(10)));
        limits.forget(now + REFUSAL_MEMORY);
        assert_eq!(limits.len(), 0);
    }

    #[test]
    fn missed_calls_of_a_minute_are_one() {
        let (mut limits, now) = (Limits::default(), Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        let told: Vec<bool> =
            [0, 5, 59, 60, 61].into_iter().map(|s| limits.is_new_missed(at(s), "anna", "bert")).collect();
        assert_eq!(told, [true, false, false, true, false]);
    }
}
