//! What survives a device's broken connection: numbered frames for replay, and the answers to recent requests, so that
//! a repeated request is not executed twice. Pure.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Frames that can be sent again, and their bytes: an offer with its candidates has 10 KiB.
const REPLAY_FRAMES: usize = 512;
const REPLAY_BYTES: usize = 1 << 20;
/// And for how long. A session without a connection lives as long.
pub const REPLAY_TIME: Duration = Duration::from_secs(60);
/// Maximum number of remembered answers.
const REMEMBERED: usize = 256;

/// A frame as it was sent.
#[derive(Clone, Debug)]
struct Sent {
    seq: u64,
    at: Instant,
    text: Arc<str>,
}

/// The numbered frames of one session, and its answers.
#[derive(Debug, Default)]
pub struct Journal {
    seq: u64,
    sent: VecDeque<Sent>,
    bytes: usize,
    answers: VecDeque<(String, Value)>,
}

impl Journal {
    /// Gives a frame its number and remembers it.
    pub fn number(&mut self, now: Instant, mut frame: Value) -> Arc<str> {
        self.seq += 1;
        if let Some(object) = frame.as_object_mut() {
            object.insert("seq".into(), self.seq.into());
        }
        let text: Arc<str> = frame.to_string().into();
        self.forget(now);
        self.bytes += text.len();
        while self.sent.len() >= REPLAY_FRAMES || (self.bytes > REPLAY_BYTES && !self.sent.is_empty()) {
            self.drop_first();
        }
        self.sent.push_back(Sent { seq: self.seq, at: now, text: text.clone() });
        text
    }

    /// The last number assigned.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// All frames after a number; `None` if some of them are no longer kept, or the number was never assigned.
    pub fn since(&mut self, now: Instant, last: u64) -> Option<Vec<Arc<str>>> {
        self.forget(now);
        let first = self.sent.front().map_or(self.seq + 1, |sent| sent.seq);
        if last > self.seq || last + 1 < first {
            return None;
        }
        Some(self.sent.iter().filter(|sent| sent.seq > last).map(|sent| sent.text.clone()).collect())
    }

    fn forget(&mut self, now: Instant) {
        let old = |sent: &Sent| now.saturating_duration_since(sent.at) > REPLAY_TIME;
        while self.sent.front().is_some_and(old) {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        if let Some(dropped) = self.sent.pop_front() {
            self.bytes -= dropped.text.len();
        }
    }

    /// The answer already given to a request with this id.
    pub fn answered(&self, id: &str) -> Option<&Value> {
        self.answers.iter().find(|(known, _)| known == id).map(|(_, answer)| answer)
    }

    /// Remembers an answer.
    pub fn remember(&mut self, id: &str, answer: Value) {
        if self.answers.len() == REMEMBERED {
            self.answers.pop_front();
        }
        self.answers.push_back((id.to_owned(), answer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn frames_are_numbered_and_sent_again() {
        let (mut journal, now) = (Journal::default(), Instant::now());
        for number in 1..=3 {
            let text = journal.number(now, json!({ "type": "x" }));
            assert!(text.contains(&format!("\"seq\":{number}")), "{text}");
        }
        assert_eq!(journal.since(now, 1).unwrap().len(), 2);
        assert_eq!(journal.since(now, 3).unwrap().len(), 0);
        assert_eq!(journal.since(now, 4), None, "a number that was never given");
    }

    #[test]
    fn what_is_too_old_or_too_much_is_forgotten() {
        let (mut journal, now) = (Journal::default(), Instant::now());
        for _ in 0..600 {
            journal.number(now, json!({}));
        }
        assert_eq!(journal.since(now, 50), None);
        assert_eq!(journal.since(now, 88).unwrap().len(), 512);
        let later = now + REPLAY_TIME + Duration::from_secs(1);
        assert_eq!(journal.since(later, 599), None);
        assert_eq!(journal.since(later, 600).unwrap().len(), 0);
    }

    #[test]
    fn the_last_answers_are_remembered() {
        let mut journal = Journal::default();
        for id in 0..300 {
            journal.remember(&id.to_string(), json!(id));
        }
        assert_eq!(journal.answered("299"), Some(&json!(299)));
        assert_eq!(journal.answered("0"), None);
        assert_eq!(journal.answers.len(), 256);
    }
}
