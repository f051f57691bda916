//! The list of running sessions of viewers and publishers, and of sockets. It admits new sessions within the limits of
//! accounts and addresses, and removes those that have ended. It decides no permissions and terminates nothing itself;
//! that is `revocation`. Start at [`Registry::admit`].

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::accounts::credentials::{Caller, Credential};
use crate::accounts::permissions::Role;
use crate::accounts::throttle::network_of;
use crate::ids::SessionId;
use crate::names::StreamName;
use crate::signaling::grants::Direction;

/// Limits on concurrent sessions. For dispatchers and administrators only the total applies.
#[derive(Clone, Copy, Debug)]
pub struct SessionLimits {
    /// In all.
    pub total: usize,
    /// Per account.
    pub per_account: usize,
    /// Per address (IPv6: per /64).
    pub per_address: usize,
    /// Per address, without an account.
    pub public_per_address: usize,
}

impl SessionLimits {
    /// Sessions reserved for dispatchers and administrators.
    fn reserve(&self) -> usize {
        self.total / 10
    }

    /// Total for callers without an account, so that strangers cannot lock out logged-in users.
    fn public(&self) -> usize {
        self.total * 3 / 4
    }
}

/// Why a session is not admitted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The total limit is reached.
    Total,
    /// The account's limit is reached.
    Account,
    /// The address's limit is reached.
    Address,
    /// The stream already has a publisher.
    Published,
}

/// A session of a viewer or publisher, from its admission to its end.
#[derive(Clone)]
pub struct Running {
    /// Whose session it is.
    pub caller: Caller,
    /// The stream that is watched or published.
    pub stream: StreamName,
    /// Watching or publishing.
    pub direction: Direction,
    network: IpAddr,
    /// The entry of the audit log, once it is written.
    pub entry: Option<i64>,
}

impl Running {
    fn account(&self) -> Option<&str> {
        self.caller.identity().map(|identity| identity.person.name.as_str())
    }
}

fn is_privileged(caller: &Caller) -> bool {
    caller.identity().is_some_and(|identity| identity.person.role >= Role::Dispatcher)
}

/// An open socket.
pub(super) struct Socket {
    pub credential: Credential,
    /// The login name: the database may reuse row numbers for other users.
    pub user: String,
    pub end: CancellationToken,
}

#[derive(Default)]
pub(super) struct Live {
    /// Admitted, but without a session yet.
    pending: HashMap<u64, Running>,
    pub sessions: HashMap<SessionId, Running>,
    pub sockets: HashMap<u64, Socket>,
    next: u64,
}

impl Live {
    fn all(&self) -> impl Iterator<Item = &Running> {
        self.sessions.values().chain(self.pending.values())
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn refusal(&self, new: &Running, limits: &SessionLimits) -> Option<Refusal> {
        let total = self.all().count();
        if is_privileged(&new.caller) {
            return (total >= limits.total).then_some(Refusal::Total);
        }
        let of_address = self.all().filter(|other| other.network == new.network);
        let address_is_full = match new.account() {
            Some(_) => of_address.count() >= limits.per_address,
            None => of_address.filter(|other| other.account().is_none()).count() >= limits.public_per_address,
        };
        let account_is_full = new.account().is_some_and(|account| {
            self.all().filter(|other| other.account() == Some(account)).count() >= limits.per_account
        });
        let public_is_full = new.account().is_none()
            && self.all().filter(|other| other.account().is_none()).count() >= limits.public();
        match (account_is_full, address_is_full) {
            (true, _) => Some(Refusal::Account),
            (_, true) => Some(Refusal::Address),
            _ if public_is_full || total >= limits.total - limits.reserve() => Some(Refusal::Total),
            _ => None,
        }
    }

    /// The session that publishes a stream, if the new one may replace it: that requires the same credential.
    fn publisher(&self, new: &Running) -> Result<Option<SessionId>, Refusal> {
        let publishes = |other: &Running| other.direction == Direction::Publish && other.stream == new.stream;
        // A pending publisher is not replaced: its request has not been answered yet.
        if self.pending.values().any(publishes) {
            return Err(Refusal::Published);
        }
        match self.sessions.iter().find(|(_, other)| publishes(other)) {
            Some((_, other)) if other.caller.credential() != new.caller.credential() => {
                Err(Refusal::Published)
            }
            found => Ok(found.map(|(session, _)| *session)),
        }
    }
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    live: Arc<Mutex<Live>>,
    limits: SessionLimits,
}

/// A slot reserved for a session until it begins. Dropping it releases the slot.
pub struct Admission {
    registry: Registry,
    number: u64,
    /// The publisher that is replaced: to be closed once the new session has begun.
    pub replaces: Option<SessionId>,
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.registry.lock().pending.remove(&self.number);
    }
}

/// A registered socket; dropping the guard removes it from the registry.
pub struct SocketGuard {
    registry: Registry,
    number: u64,
    /// Cancelled when the socket has to be closed.
    pub end: CancellationToken,
}

impl Drop for SocketGuard {
    fn drop(&mut self) {
        self.registry.lock().sockets.remove(&self.number);
    }
}

impl Registry {
    /// An empty registry.
    pub fn new(limits: SessionLimits) -> Self {
        Self { live: Arc::default(), limits }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves a slot for a session of `caller`, whose permission has been checked.
    ///
    /// # Errors
    /// The limit that is reached, or the stream already has a publisher.
    pub fn admit(
        &self,
        caller: &Caller,
        stream: &StreamName,
        direction: Direction,
        address: IpAddr,
    ) -> Result<Admission, Refusal> {
        let new = Running {
            caller: caller.clone(),
            stream: stream.clone(),
            direction,
            network: network_of(address),
            entry: None,
        };
        let mut live = self.lock();
        let replaces = match direction {
            Direction::Watch => None,
            Direction::Publish => live.publisher(&new)?,
        };
        if let Some(refusal) = live.refusal(&new, &self.limits).filter(|_| replaces.is_none()) {
            return Err(refusal);
        }
        let number = live.number();
        live.pending.insert(number, new);
        Ok(Admission { registry: self.clone(), number, replaces })
    }

    /// Turns an admission into a running session.
    pub(super) fn begin(&self, admission: Admission, session: SessionId) -> Option<Running> {
        let mut live = self.lock();
        let running = live.pending.remove(&admission.number)?;
        live.sessions.insert(session, running.clone());
        drop(live);
        // The session has taken over the slot; dropping the admission removes nothing.
        drop(admission);
        Some(running)
    }

    /// Stores the number of the audit log entry; `false` if the session has ended in the meantime.
    pub(super) fn set_entry(&self, session: SessionId, entry: i64) -> bool {
        let mut live = self.lock();
        let running = live.sessions.get_mut(&session);
        running.map(|running| running.entry = Some(entry)).is_some()
    }

    /// Removes a session that has ended.
    pub(super) fn remove(&self, session: SessionId) -> Option<Running> {
        self.lock().sessions.remove(&session)
    }

    /// The stream that a session watches.
    pub fn watched(&self, session: &SessionId) -> Option<StreamName> {
        let live = self.lock();
        let running = live.sessions.get(session)?;
        (running.direction == Direction::Watch).then(|| running.stream.clone())
    }

    /// Registers an open socket of `user`.
    pub fn socket(&self, credential: Credential, user: String) -> SocketGuard {
        let end = CancellationToken::new();
        let mut live = self.lock();
        let number = live.number();
        live.sockets.insert(number, Socket { credential, user, end: end.clone() });
        SocketGuard { registry: self.clone(), number, end }
    }

    /// The streams with running or pending sessions.
    pub(super) fn streams(&self) -> HashSet<StreamName> {
        self.lock().all().map(|running| running.stream.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::credentials::Identity;
    use crate::accounts::permissions::{Person, Scopes};

    fn person(name: &str, role: Role, login: i64) -> Caller {
        Caller::Person(Arc::new(Identity {
            user: 1,
            person: Person { name: name.into(), role, groups: vec![] },
            display: name.into(),
            language: String::new(),
            must_change: false,
            credential: Credential::Login(login),
            scopes: Scopes::ALL,
        }))
    }

    fn registry() -> Registry {
        Registry::new(SessionLimits { total: 20, per_account: 5, per_address: 8, public_per_address: 4 })
    }

    fn admit(registry: &Registry, caller: &Caller, address: u8) -> Result<Admission, Refusal> {
        let stream = StreamName::camera("c").unwrap();
        registry.admit(caller, &stream, Direction::Watch, [192, 0, 2, address].into())
    }

    #[test]
    fn nobody_takes_all_places() {
        let registry = registry();
        let mut kept = Vec::new();
        let mut fill = |caller: &Caller, address: u8, expected: usize, refusal: Refusal| {
            let mut count = 0;
            let end = loop {
                match admit(&registry, caller, address) {
                    Ok(admission) => kept.push(admission),
                    Err(refusal) => break refusal,
                }
                count += 1;
            };
            assert_eq!((count, end), (expected, refusal), "{}", caller.actor());
        };
        fill(&person("gus", Role::Guest, 1), 1, 5, Refusal::Account);
        fill(&person("gus", Role::Guest, 2), 2, 0, Refusal::Account);
        fill(&person("mia", Role::Member, 3), 1, 3, Refusal::Address);
        fill(&Caller::Nobody, 3, 4, Refusal::Address);
        fill(&Caller::Nobody, 4, 4, Refusal::Address);
        // Reserved for those who run the place.
        fill(&person("mia", Role::Member, 3), 5, 2, Refusal::Account);
        fill(&person("max", Role::Member, 4), 6, 0, Refusal::Total);
        fill(&person("dora", Role::Dispatcher, 5), 1, 2, Refusal::Total);
        drop(kept);
        assert!(admit(&registry, &person("gus", Role::Guest, 1), 1).is_ok(), "slots are released");
    }

    #[test]
    fn one_publisher_a_stream() {
        let registry = registry();
        let (stream, address) = (StreamName::camera("stage").unwrap(), [192, 0, 2, 1].into());
        let publish = |caller: &Caller| registry.admit(caller, &stream, Direction::Publish, address);
        let (one, other) = (person("obs", Role::Member, 1), person("obs", Role::Member, 2));
        let admission = publish(&one).ok().unwrap();
        assert_eq!(publish(&one).err(), Some(Refusal::Published), "not even the same one at the same time");
        let session = SessionId::random();
        registry.begin(admission, session).unwrap();
        assert_eq!(publish(&other).err(), Some(Refusal::Published));
        assert_eq!(publish(&one).ok().unwrap().replaces, Some(session));
        registry.remove(session);
        assert_eq!(publish(&other).ok().unwrap().replaces, None);
    }
}
