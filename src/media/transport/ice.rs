//! The ICE agent of a peer: a full agent in the controlled role (RFC 8445), with consent freshness (RFC 7675). Pure:
//! datagrams, the time and random bits go in, datagrams come out. It does not handle our own candidates: one socket
//! serves all addresses. Why not rtc's agent: `docs/decisions/0002-own-ice.md`. Start at [`IceAgent::handle`].
//!
//! An address is *proven* once one of our checks was answered from there. Until then it may belong to a third party,
//! because the remote side can invent candidates or forge source addresses. Only a few checks and no media are sent to
//! unproven addresses.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rtc::crypto::RTCCryptoProvider;

use crate::media::transport::path::Path;
use crate::media::transport::stun::{self, Incoming, Kind, Transaction};
use crate::token_bucket::TokenBucket;

/// Maximum number of pairs; a browser with two networks creates about ten.
pub const MAX_PAIRS: usize = 24;
/// Checks sent on a pair before giving up.
const MAX_CHECKS: u32 = 4;
/// Time between two checks of a pair; doubles each time.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// Interval of the consent checks on the selected pair (RFC 7675 §5.1: 5 s).
const CONSENT_INTERVAL: Duration = Duration::from_secs(4);
/// A peer that has answered no consent check for this long is gone (RFC 7675: 30 s).
const CONSENT_LIMIT: Duration = Duration::from_secs(20);
/// Checks of one session to unproven addresses: burst size, and rate per minute. Restarts do not refill it.
const SESSION_CHECKS: u32 = 40;
/// Unsolicited checks of all sessions to unproven addresses: burst size, and rate per second. Only the first check
/// triggered by an authentic incoming check counts as solicited.
const UNSOLICITED_CHECKS: u32 = 100;
/// With a longer user fragment, our checks would be larger than the message that causes them (traffic amplification).
/// Such peers are checked only at addresses from which they sent us a check, whose user name is equally long.
const MAX_UNSOLICITED_UFRAG: usize = 64;

/// The first bytes of each transaction id of an agent: the numbers of the shard and the peer. They route responses from
/// addresses not proven yet. MESSAGE-INTEGRITY, not the transaction id, protects responses against forgery.
pub type Tag = [u8; 5];

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
    /// One of our checks was answered.
    proven: bool,
    /// An authentic check of the remote side has arrived from there.
    heard: bool,
    /// Nominated before it was proven: selected once it is proven, unless another pair was nominated since.
    nominated: bool,
    checks: u32,
    next_check: Option<Instant>,
    pending: Option<(Transaction, Instant)>,
    last_request: Instant,
    last_answer: Instant,
}

/// A datagram to be sent.
pub struct Outgoing {
    /// The destination.
    pub path: Path,
    /// The datagram.
    pub data: Vec<u8>,
}

/// The outcome of handling a datagram.
#[derive(Default)]
pub struct Outcome {
    /// Its MESSAGE-INTEGRITY is valid. Its source address may still be forged.
    pub authentic: bool,
    /// The address is proven to be the peer's: one of our checks was answered from there.
    pub proven: bool,
    /// Datagrams to be sent now.
    pub outgoing: Vec<Outgoing>,
    /// The selected path has changed.
    pub selected: bool,
    /// A proven pair that was evicted: its address no longer belongs to this peer.
    pub evicted: Option<Path>,
}

/// State shared by the agents of a shard, including their source of randomness.
pub struct Shared {
    /// Rate limit for unsolicited checks.
    unsolicited: TokenBucket,
    random: Box<dyn FnMut() -> Transaction + Send>,
}

impl Shared {
    /// The share of one of `shards` threads. `random` returns random bits.
    pub fn new(shards: usize, random: Box<dyn FnMut() -> Transaction + Send>) -> Self {
        let share = (UNSOLICITED_CHECKS / shards.max(1) as u32).max(1);
        Self { unsolicited: TokenBucket::new(share, share, Duration::from_secs(1)), random }
    }
}

/// See the module.
pub struct IceAgent {
    provider: Arc<dyn RTCCryptoProvider>,
    local: Credentials,
    remote: Credentials,
    tie_breaker: u64,
    tag: Tag,
    pairs: Vec<Pair>,
    selected: Option<Path>,
    checks: TokenBucket,
    last_consent: Instant,
    started: Instant,
    round_trip: Option<Duration>,
}

impl IceAgent {
    /// An agent that is ready for the peer's checks. `tie_breaker` is random.
    pub fn new(
        now: Instant,
        local: Credentials,
        remote: Credentials,
        tie_breaker: u64,
        tag: Tag,
        provider: Arc<dyn RTCCryptoProvider>,
    ) -> Self {
        Self {
            provider,
            local,
            remote,
            tie_breaker,
            tag,
            pairs: Vec::new(),
            selected: None,
            checks: TokenBucket::new(SESSION_CHECKS, SESSION_CHECKS, Duration::from_secs(60)),
            last_consent: now,
            started: now,
            round_trip: None,
        }
    }

    /// The selected path, where media is sent.
    pub fn selected(&self) -> Option<Path> {
        self.selected
    }

    /// Whether the selected address is proven: before that, hardly anything may be sent there.
    pub fn is_proven(&self) -> bool {
        let pair = self.selected.and_then(|selected| self.find(&selected));
        // After a restart the previously selected path has no pair; it was proven before.
        pair.map_or(self.selected.is_some(), |index| self.pairs[index].proven)
    }

    /// Where the handshake is sent, and whether that address is proven: the selected path, or another one that is.
    pub fn handshake_path(&self) -> Option<(Path, bool)> {
        let selected = self.selected?;
        if self.is_proven() {
            return Some((selected, true));
        }
        let proven = self.pairs.iter().filter(|pair| pair.proven);
        match proven.max_by_key(|pair| pair.last_answer) {
            Some(pair) => Some((pair.path, true)),
            None => Some((selected, false)),
        }
    }

    /// The round-trip time of the last answered check.
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// Performs an ICE restart (RFC 8445 §2.4): new credentials; media keeps its path until a new pair is nominated.
    pub fn restart(&mut self, now: Instant, local: Credentials, remote: Credentials) {
        if !self.is_proven() {
            self.selected = None;
        }
        self.local = local;
        self.remote = remote;
        self.pairs.clear();
        self.started = now;
        self.last_consent = now;
    }

    /// Adds a remote candidate, which is checked as well.
    pub fn add_remote(&mut self, now: Instant, path: Path) {
        let room = self.pairs.len() < MAX_PAIRS / 2 && self.remote.ufrag.len() <= MAX_UNSOLICITED_UFRAG;
        if room && self.find(&path).is_none() {
            self.pairs.push(new_pair(now, path));
            if let Some(pair) = self.pairs.last_mut() {
                pair.next_check = Some(now);
            }
        }
    }

    /// Handles a STUN datagram.
    pub fn handle(&mut self, now: Instant, path: Path, data: &[u8], shared: &mut Shared) -> Outcome {
        let Some(mut message) = Incoming::parse(data) else { return Outcome::default() };
        match message.kind() {
            Kind::Request => self.request(now, path, &mut message, shared),
            Kind::Success => self.response(now, path, &mut message),
        }
    }

    fn request(&mut self, now: Instant, path: Path, message: &mut Incoming, shared: &mut Shared) -> Outcome {
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
        let known = self.find(&path).or_else(|| self.add(now, path, &mut outcome));
        let Some(index) = known else { return outcome };
        let pair = &mut self.pairs[index];
        pair.path = path;
        (pair.heard, pair.last_request) = (true, now);
        let proven = pair.proven;
        if message.use_candidate() {
            self.nominate(index, &mut outcome);
        }
        // A triggered check (RFC 8445 §7.3.1.4), sent immediately so that the pair is proven one round trip later.
        if !proven && self.pairs[index].pending.is_none() {
            outcome.outgoing.extend(self.check(now, index, shared));
        }
        outcome
    }

    /// The pair nominated last is selected (RFC 8445 §8.1.1), but a proven selected pair is kept until the new one is
    /// proven, too.
    fn nominate(&mut self, index: usize, outcome: &mut Outcome) {
        let proven = self.pairs[index].proven;
        for (other, pair) in self.pairs.iter_mut().enumerate() {
            pair.nominated = other == index && !proven;
        }
        // If no proven pair is selected, an unproven one may be: the DTLS handshake can then start a round trip
        // earlier, with a single datagram.
        if proven || !self.is_proven() {
            outcome.selected = self.select(self.pairs[index].path);
        }
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
        pair.proven = true;
        pair.next_check = None;
        pair.last_answer = now;
        let mut outcome = Outcome { authentic: true, proven: true, ..Outcome::default() };
        if std::mem::take(&mut pair.nominated) {
            outcome.selected = self.select(path);
        }
        outcome
    }

    /// Sends checks that are due. `false` if the remote side's consent has expired.
    pub fn poll(&mut self, now: Instant, outgoing: &mut Vec<Outgoing>, shared: &mut Shared) -> bool {
        for index in 0..self.pairs.len() {
            if self.pairs[index].next_check.is_some_and(|due| due <= now) {
                outgoing.extend(self.check(now, index, shared));
            }
        }
        // Peers that never connect are removed by `Peer`, which limits the time for the whole handshake.
        let Some(selected) = self.selected else { return true };
        if now.saturating_duration_since(self.last_consent) >= CONSENT_INTERVAL {
            self.last_consent = now;
            if let Some(index) = self.find(&selected) {
                outgoing.extend(self.check(now, index, shared));
            }
        }
        let answered = self.find(&selected).map_or(self.started, |index| self.pairs[index].last_answer);
        now.saturating_duration_since(answered) < CONSENT_LIMIT
    }

    fn check(&mut self, now: Instant, index: usize, shared: &mut Shared) -> Option<Outgoing> {
        let pair = &mut self.pairs[index];
        pair.checks += 1;
        let again = !pair.proven && pair.checks < MAX_CHECKS;
        pair.next_check = again.then(|| now + CHECK_INTERVAL * (1 << pair.checks.min(5)) / 2);
        let solicited = pair.heard && pair.checks == 1;
        if !pair.proven && !(self.checks.take(now) && (solicited || shared.unsolicited.take(now))) {
            return None;
        }
        let username = format!("{}:{}", self.remote.ufrag, self.local.ufrag);
        let mut transaction = (shared.random)();
        transaction[..self.tag.len()].copy_from_slice(&self.tag);
        let crypto = self.provider.crypto();
        let data = stun::request(transaction, username, self.tie_breaker, &self.remote.pwd, crypto)?;
        pair.pending = Some((transaction, now));
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

    /// Adds a pair for an address from which a check has arrived. If the table is full, the pair that was silent the
    /// longest is evicted: an unproven one, or, if all are proven, a proven one that is not in use. Proven pairs
    /// are therefore never displaced by more than one unproven pair at a time.
    fn add(&mut self, now: Instant, path: Path, outcome: &mut Outcome) -> Option<usize> {
        if self.pairs.len() >= MAX_PAIRS {
            let selected = self.selected;
            let in_use = |pair: &Pair| Some(pair.path) == selected || pair.nominated;
            let unproven = self.pairs.iter().filter(|pair| !pair.proven).count();
            let candidates = (0..self.pairs.len())
                .filter(|&index| !in_use(&self.pairs[index]))
                .filter(|&index| !self.pairs[index].proven || unproven == 0);
            let oldest = candidates.min_by_key(|&index| self.pairs[index].last_request)?;
            let evicted = self.pairs.swap_remove(oldest);
            outcome.evicted = evicted.proven.then_some(evicted.path);
        }
        self.pairs.push(new_pair(now, path));
        Some(self.pairs.len() - 1)
    }
}

fn new_pair(now: Instant, path: Path) -> Pair {
    Pair {
        path,
        proven: false,
        heard: false,
        nominated: false,
        checks: 0,
        next_check: None,
        pending: None,
        last_request: now,
        last_answer: now,
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

    fn shared() -> Shared {
        let mut count = 0u128;
        let random = move || {
            count += 1;
            let mut bits = [0; 12];
            bits.copy_from_slice(&count.to_be_bytes()[4..]);
            bits
        };
        Shared::new(1, Box::new(random))
    }

    struct Test {
        agent: IceAgent,
        shared: Shared,
        now: Instant,
        ours: Credentials,
        theirs: Credentials,
    }

    impl Test {
        fn new() -> Self {
            let (now, ours, theirs) = (Instant::now(), credentials("us"), credentials("them"));
            let provider = rtc::crypto::default_provider().unwrap();
            let agent = IceAgent::new(now, ours.clone(), theirs.clone(), 7, [0; 5], provider);
            Self { agent, shared: shared(), now, ours, theirs }
        }

        fn check(&mut self, port: u16, nominate: bool) -> Outcome {
            let name = format!("{}:{}", self.ours.ufrag, self.theirs.ufrag);
            let (_, data) = browser_check(&name, &self.ours.pwd, nominate);
            self.agent.handle(self.now, path(port), &data, &mut self.shared)
        }

        fn answer(&mut self, check: &Outgoing) -> Outcome {
            let provider = rtc::crypto::default_provider().unwrap();
            let transaction = Incoming::parse(&check.data).unwrap().transaction();
            let mapped = ([1, 1, 1, 1], 1).into();
            let data = stun::success(transaction, mapped, &self.theirs.pwd, provider.crypto()).unwrap();
            self.agent.handle(self.now, check.path, &data, &mut self.shared)
        }

        /// Their check, and their response to ours.
        fn prove(&mut self, port: u16, nominate: bool) -> Outcome {
            let outcome = self.check(port, nominate);
            self.answer(&outcome.outgoing[1])
        }

        fn poll(&mut self, after: Duration) -> (bool, usize) {
            let mut sent = Vec::new();
            let alive = self.agent.poll(self.now + after, &mut sent, &mut self.shared);
            (alive, sent.len())
        }

        fn restart(&mut self) {
            (self.ours, self.theirs) = (credentials("new"), credentials("them2"));
            self.agent.restart(self.now, self.ours.clone(), self.theirs.clone());
        }
    }

    #[test]
    fn a_nominating_check_is_answered_and_selected_at_once() {
        let mut test = Test::new();
        let outcome = test.check(1, true);
        assert!(outcome.authentic && outcome.selected && !outcome.proven);
        assert!(!test.agent.is_proven());
        // The answer and the triggered check.
        assert_eq!(outcome.outgoing.len(), 2);
        let outcome = test.answer(&outcome.outgoing[1]);
        assert!(outcome.proven && test.agent.is_proven());
        assert_eq!(test.agent.selected(), Some(path(1)));
        assert!(test.agent.round_trip().is_some());
    }

    #[test]
    fn a_later_nomination_moves_media_once_its_pair_is_proven() {
        let mut test = Test::new();
        test.prove(1, true);
        let outcome = test.check(2, true);
        assert!(!outcome.selected, "a proven pair is not displaced by an unproven one");
        assert!(test.answer(&outcome.outgoing[1]).selected, "without a second nomination");
        assert_eq!(test.agent.selected(), Some(path(2)));
        assert!(test.check(1, true).selected, "back to one that is proven: at once");
    }

    /// Firefox nominates once, also after a restart.
    #[test]
    fn one_nomination_after_a_restart_moves_media() {
        let mut test = Test::new();
        test.prove(1, true);
        test.restart();
        assert_eq!(test.agent.selected(), Some(path(1)), "media keeps flowing");
        let outcome = test.check(3, true);
        assert!(!outcome.selected && test.agent.selected() == Some(path(1)));
        assert!(test.answer(&outcome.outgoing[1]).selected);
        assert_eq!(test.agent.selected(), Some(path(3)));
    }

    #[test]
    fn of_two_nominations_the_later_one_counts() {
        let mut test = Test::new();
        test.prove(1, true);
        let (early, late) = (test.check(2, true), test.check(3, true));
        assert!(test.answer(&late.outgoing[1]).selected);
        assert!(!test.answer(&early.outgoing[1]).selected, "its answer comes late, its nomination is old");
        assert_eq!(test.agent.selected(), Some(path(3)));
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
            let outcome = test.agent.handle(test.now, path(1), &data, &mut test.shared);
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
        assert!(!test.answer(&check).proven);
    }

    #[test]
    fn consent_is_asked_for_and_ends() {
        let mut test = Test::new();
        test.prove(1, true);
        let (mut sent, mut ended) = (0, None);
        for second in 0..30 {
            test.now += Duration::from_secs(1);
            // Incoming checks do not renew consent (RFC 7675 §5.1).
            test.check(1, false);
            let (alive, count) = test.poll(Duration::ZERO);
            sent += count;
            if !alive && ended.is_none() {
                ended = Some(second + 1);
            }
        }
        assert_eq!(ended, Some(20));
        assert!(sent >= 5);
    }

    /// Limits the checks sent to third parties whose addresses a peer keeps naming as candidates.
    #[test]
    fn checks_to_addresses_that_were_merely_named_are_few() {
        let mut test = Test::new();
        let mut sent = 0;
        for round in 0..30u16 {
            (0..8).for_each(|n| test.agent.add_remote(test.now, path(2000 + round * 8 + n)));
            for _ in 0..10 {
                sent += test.poll(Duration::ZERO).1;
                test.now += Duration::from_millis(100);
            }
            test.restart();
        }
        assert!(sent <= 60, "{sent} in 30 s: 40 at once, and 40 a minute");
    }

    #[test]
    fn all_sessions_together_have_a_rate_for_them() {
        let mut common = shared();
        let mut sent = Vec::new();
        let now = Instant::now();
        let provider = rtc::crypto::default_provider().unwrap();
        for _ in 0..100 {
            let mut agent =
                IceAgent::new(now, credentials("us"), credentials("them"), 7, [0; 5], provider.clone());
            (0..8).for_each(|n| agent.add_remote(now, path(3000 + n)));
            agent.poll(now, &mut sent, &mut common);
        }
        assert_eq!(sent.len(), UNSOLICITED_CHECKS as usize);
    }

    #[test]
    fn a_long_user_fragment_is_not_sent_to_strangers() {
        let mut test = Test::new();
        test.theirs.ufrag = "x".repeat(256);
        test.agent.restart(test.now, test.ours.clone(), test.theirs.clone());
        test.agent.add_remote(test.now, path(5));
        assert_eq!(test.poll(Duration::ZERO).1, 0);
        assert!(test.prove(6, true).selected || test.agent.is_proven(), "it can connect all the same");
    }

    #[test]
    fn a_million_sources_leave_nothing_behind() {
        let mut test = Test::new();
        test.prove(1, true);
        test.prove(2, false);
        for port in 3..u16::MAX {
            let outcome = test.check(port, port % 7 == 0);
            assert_eq!(outcome.evicted, None, "proven pairs stay");
        }
        assert!(test.agent.pairs.len() <= MAX_PAIRS);
        assert_eq!(test.agent.selected(), Some(path(1)));
        assert!(test.agent.find(&path(2)).is_some());
    }

    #[test]
    fn proven_pairs_that_make_room_are_told() {
        let mut test = Test::new();
        let mut told = Vec::new();
        for port in 1..60 {
            test.now += Duration::from_secs(2);
            let outcome = test.check(port, port == 1);
            told.extend(outcome.evicted.map(|path| path.remote.port()));
            assert!(test.answer(&outcome.outgoing[1]).proven, "{port}");
        }
        assert_eq!(told, (2..=36).collect::<Vec<_>>());
        assert_eq!(test.agent.pairs.len(), MAX_PAIRS);
    }
}
