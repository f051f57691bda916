//! The ICE side of a peer that answered: a full agent in the controlled role (RFC 8445), with consent freshness
//! (RFC 7675). Pure: datagrams and the time go in, datagrams come out. It names no candidates of ours: one
//! socket serves all addresses. Why not rtc's agent: `docs/decisions/0002-own-ice.md`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rtc::crypto::RTCCryptoProvider;

use crate::media::transport::path::Path;
use crate::media::transport::stun::{self, Incoming, Kind, Transaction};

/// Pairs that are kept; a browser with two networks makes about ten.
const MAX_PAIRS: usize = 24;
/// Times a check is sent before its pair is given up.
const MAX_CHECKS: u32 = 7;
/// From one check of a pair to the next; doubles each time.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// Between two checks of consent on the selected pair (RFC 7675 §5.1 has 5 s).
const CONSENT_INTERVAL: Duration = Duration::from_secs(4);
/// A peer that was silent for so long is gone (RFC 7675 has 30 s).
const CONSENT_LIMIT: Duration = Duration::from_secs(20);
/// A peer that never came.
const CONNECT_LIMIT: Duration = Duration::from_secs(25);

/// User fragment and password of one side.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// `ice-ufrag`.
    pub ufrag: String,
    /// `ice-pwd`.
    pub pwd: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:…", self.ufrag)
    }
}

struct Pair {
    path: Path,
    /// A check of ours was answered.
    valid: bool,
    nominated: bool,
    checks: u32,
    next_check: Option<Instant>,
    pending: Option<(Transaction, Instant)>,
    last_heard: Instant,
}

/// Something to be sent.
pub struct Outgoing {
    /// Where to.
    pub path: Path,
    /// The datagram.
    pub data: Vec<u8>,
}

/// What became of a datagram.
#[derive(Default)]
pub struct Outcome {
    /// It was made with the right password: its sender's address may be remembered.
    pub authentic: bool,
    /// To be sent now.
    pub outgoing: Vec<Outgoing>,
    /// Media goes another way from now on.
    pub selected: bool,
}

/// See the module.
pub struct IceAgent {
    provider: Arc<dyn RTCCryptoProvider>,
    local: Credentials,
    remote: Credentials,
    tie_breaker: u64,
    pairs: Vec<Pair>,
    selected: Option<Path>,
    last_consent: Instant,
    started: Instant,
    round_trip: Option<Duration>,
}

impl IceAgent {
    /// An agent whose peer may begin at once.
    pub fn new(
        now: Instant,
        local: Credentials,
        remote: Credentials,
        provider: Arc<dyn RTCCryptoProvider>,
    ) -> Self {
        Self {
            provider,
            local,
            remote,
            tie_breaker: rand::random(),
            pairs: Vec::new(),
            selected: None,
            last_consent: now,
            started: now,
            round_trip: None,
        }
    }

    /// Where media goes.
    pub fn selected(&self) -> Option<Path> {
        self.selected
    }

    /// Of the last answered check.
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// An ICE restart (RFC 8445 §2.4): new passwords; media stays where it is until a new pair is nominated.
    pub fn restart(&mut self, now: Instant, local: Credentials, remote: Credentials) {
        self.local = local;
        self.remote = remote;
        self.pairs.clear();
        self.started = now;
        self.last_consent = now;
    }

    /// An address that the other side has told us; checks go there as well.
    pub fn add_remote(&mut self, now: Instant, path: Path) {
        if self.find(&path).is_none() && self.pairs.len() < MAX_PAIRS / 2 {
            let index = self.add(now, path);
            self.pairs[index].next_check = Some(now);
        }
    }

    /// Takes a STUN datagram.
    pub fn handle(&mut self, now: Instant, path: Path, data: &[u8]) -> Outcome {
        let Some(mut message) = Incoming::parse(data) else { return Outcome::default() };
        match message.kind() {
            Kind::Request => self.request(now, path, &mut message),
            Kind::Success => self.response(now, path, &mut message),
        }
    }

    fn request(&mut self, now: Instant, path: Path, message: &mut Incoming) -> Outcome {
        let crypto = self.provider.clone();
        let ours = message.username().is_some_and(|name| name.split(':').next() == Some(&self.local.ufrag));
        if !ours || !message.is_authentic(&self.local.pwd, crypto.crypto()) {
            return Outcome::default();
        }
        let mut outcome = Outcome { authentic: true, ..Outcome::default() };
        let transaction = message.transaction();
        if message.is_controlled() {
            let reply = stun::role_conflict(transaction, &self.local.pwd, crypto.crypto());
            outcome.outgoing.extend(reply.map(|data| Outgoing { path, data }));
            return outcome;
        }
        let mapped = path.canonical_remote();
        let reply = stun::success(transaction, mapped, &self.local.pwd, crypto.crypto());
        outcome.outgoing.extend(reply.map(|data| Outgoing { path, data }));
        let index = self.find(&path).unwrap_or_else(|| self.add(now, path));
        let pair = &mut self.pairs[index];
        pair.path = path;
        pair.last_heard = now;
        pair.nominated |= message.use_candidate();
        // A triggered check (RFC 8445 §7.3.1.4): at once, so that the pair is valid a round trip later.
        if !pair.valid && pair.pending.is_none() {
            outcome.outgoing.extend(self.check(now, index));
        }
        // Nominated before it is valid: media may start for a peer that has no other way; the DTLS handshake
        // proves that the address is its own before a single packet of media goes there.
        if message.use_candidate() && (self.pairs[index].valid || self.selected.is_none()) {
            outcome.selected = self.select(path);
        }
        outcome
    }

    fn response(&mut self, now: Instant, path: Path, message: &mut Incoming) -> Outcome {
        let transaction = message.transaction();
        let pending = |pair: &Pair| pair.pending.is_some_and(|(id, _)| id == transaction);
        let Some(index) = self.pairs.iter().position(|pair| pending(pair) && pair.path == path) else {
            return Outcome::default();
        };
        if !message.is_authentic(&self.remote.pwd, self.provider.crypto()) {
            return Outcome::default();
        }
        let pair = &mut self.pairs[index];
        self.round_trip = pair.pending.take().map(|(_, sent)| now.saturating_duration_since(sent));
        pair.valid = true;
        pair.next_check = None;
        pair.last_heard = now;
        let selected = pair.nominated && self.selected.is_none();
        let mut outcome = Outcome { authentic: true, ..Outcome::default() };
        if selected {
            outcome.selected = self.select(path);
        }
        outcome
    }

    /// Sends what is due. `false` if the peer is gone.
    pub fn poll(&mut self, now: Instant, outgoing: &mut Vec<Outgoing>) -> bool {
        for index in 0..self.pairs.len() {
            if self.pairs[index].next_check.is_some_and(|due| due <= now) {
                outgoing.extend(self.check(now, index));
            }
        }
        let Some(selected) = self.selected else {
            return now.saturating_duration_since(self.started) < CONNECT_LIMIT;
        };
        if now.saturating_duration_since(self.last_consent) >= CONSENT_INTERVAL {
            self.last_consent = now;
            if let Some(index) = self.find(&selected) {
                self.pairs[index].checks = MAX_CHECKS;
                outgoing.extend(self.check(now, index));
            }
        }
        let heard = self.find(&selected).map_or(self.started, |index| self.pairs[index].last_heard);
        now.saturating_duration_since(heard) < CONSENT_LIMIT
    }

    fn check(&mut self, now: Instant, index: usize) -> Option<Outgoing> {
        let username = format!("{}:{}", self.remote.ufrag, self.local.ufrag);
        let transaction = rand::random();
        let crypto = self.provider.crypto();
        let data = stun::request(transaction, username, self.tie_breaker, &self.remote.pwd, crypto)?;
        let pair = &mut self.pairs[index];
        pair.pending = Some((transaction, now));
        pair.checks += 1;
        pair.next_check =
            (pair.checks < MAX_CHECKS).then(|| now + CHECK_INTERVAL * (1 << pair.checks.min(5)) / 2);
        Some(Outgoing { path: pair.path, data })
    }

    fn select(&mut self, path: Path) -> bool {
        let changed = self.selected != Some(path);
        self.selected = Some(path);
        changed
    }

    fn find(&self, path: &Path) -> Option<usize> {
        self.pairs.iter().position(|pair| pair.path == *path)
    }

    fn add(&mut self, now: Instant, path: Path) -> usize {
        if self.pairs.len() >= MAX_PAIRS {
            let selected = self.selected;
            let oldest = (0..self.pairs.len())
                .filter(|&index| Some(self.pairs[index].path) != selected)
                .min_by_key(|&index| self.pairs[index].last_heard);
            oldest.map(|index| self.pairs.swap_remove(index));
        }
        let (valid, nominated, checks) = (false, false, 0);
        self.pairs.push(Pair {
            path,
            valid,
            nominated,
            checks,
            next_check: None,
            pending: None,
            last_heard: now,
        });
        self.pairs.len() - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::transport::path::Via;
    use crate::media::transport::stun::tests::browser_check;

    fn credentials(name: &str) -> Credentials {
        Credentials { ufrag: name.into(), pwd: format!("{name}-password-of-some-length") }
    }

    fn path(port: u16) -> Path {
        Path { remote: ([192, 0, 2, 7], port).into(), via: Via::Udp, local: None }
    }

    struct Test {
        agent: IceAgent,
        now: Instant,
    }

    impl Test {
        fn new() -> Self {
            let now = Instant::now();
            let provider = rtc::crypto::default_provider().unwrap();
            Self { agent: IceAgent::new(now, credentials("us"), credentials("them"), provider), now }
        }

        fn check(&mut self, port: u16, nominate: bool) -> Outcome {
            let (_, data) = browser_check("us:them", &credentials("us").pwd, nominate);
            self.agent.handle(self.now, path(port), &data)
        }

        fn answer(&mut self, check: &Outgoing) -> Outcome {
            let provider = rtc::crypto::default_provider().unwrap();
            let transaction = Incoming::parse(&check.data).unwrap().transaction();
            let pwd = credentials("them").pwd;
            let data = stun::success(transaction, ([1, 1, 1, 1], 1).into(), &pwd, provider.crypto()).unwrap();
            self.agent.handle(self.now, check.path, &data)
        }
    }

    #[test]
    fn a_nominating_check_is_answered_and_selected_at_once() {
        let mut test = Test::new();
        let outcome = test.check(1, true);
        assert!(outcome.authentic && outcome.selected);
        // The answer and the triggered check.
        assert_eq!(outcome.outgoing.len(), 2);
        assert!(test.answer(&outcome.outgoing[1]).authentic);
        assert_eq!(test.agent.selected(), Some(path(1)));
        assert!(test.agent.round_trip().is_some());
    }

    #[test]
    fn a_later_nomination_moves_media_once_its_pair_is_valid() {
        let mut test = Test::new();
        test.check(1, true);
        let outcome = test.check(2, true);
        assert!(!outcome.selected);
        test.answer(&outcome.outgoing[1]);
        assert!(test.check(2, true).selected);
        assert_eq!(test.agent.selected(), Some(path(2)));
    }

    #[test]
    fn strangers_get_nothing() {
        let mut test = Test::new();
        for (username, password) in [
            ("us:them", "wrong-password"),
            ("other:them", "us-password-of-some-length"),
            ("", "us-password-of-some-length"),
        ] {
            let (_, data) = browser_check(username, password, true);
            let outcome = test.agent.handle(test.now, path(1), &data);
            assert!(!outcome.authentic && outcome.outgoing.is_empty() && !outcome.selected);
        }
        assert_eq!(test.agent.selected(), None);
    }

    #[test]
    fn an_answer_must_come_from_where_the_check_went() {
        let mut test = Test::new();
        let mut outcome = test.check(1, false);
        outcome.outgoing[1].path = path(9);
        let check = outcome.outgoing.remove(1);
        assert!(!test.answer(&check).authentic);
    }

    #[test]
    fn consent_is_asked_for_and_ends() {
        let mut test = Test::new();
        let outcome = test.check(1, true);
        test.answer(&outcome.outgoing[1]);
        let mut sent = Vec::new();
        let start = test.now;
        let mut alive = true;
        for second in 0..30 {
            alive = test.agent.poll(start + Duration::from_secs(second), &mut sent);
            if !alive {
                assert_eq!(second, 20);
                break;
            }
        }
        assert!(!alive);
        assert_eq!(sent.len(), 5);
    }

    #[test]
    fn a_peer_that_never_comes_is_given_up() {
        let mut test = Test::new();
        let mut sent = Vec::new();
        test.agent.add_remote(test.now, path(5));
        for tenth in 0..240 {
            assert!(test.agent.poll(test.now + Duration::from_millis(100) * tenth, &mut sent));
        }
        assert_eq!(sent.len() as u32, MAX_CHECKS);
        assert!(!test.agent.poll(test.now + CONNECT_LIMIT, &mut sent));
    }

    #[test]
    fn restart_keeps_media_flowing() {
        let mut test = Test::new();
        let outcome = test.check(1, true);
        test.answer(&outcome.outgoing[1]);
        test.agent.restart(test.now, credentials("new"), credentials("them2"));
        assert_eq!(test.agent.selected(), Some(path(1)));
        assert!(!test.check(1, true).authentic);
        let (_, data) = browser_check("new:them2", &credentials("new").pwd, true);
        assert!(test.agent.handle(test.now, path(3), &data).authentic);
    }

    #[test]
    fn pairs_are_bounded() {
        let mut test = Test::new();
        for port in 1..200 {
            test.check(port, port == 1);
        }
        assert!(test.agent.pairs.len() <= MAX_PAIRS);
        assert!(test.agent.find(&path(1)).is_some());
    }
}
