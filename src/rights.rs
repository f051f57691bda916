//! Ends what somebody is doing when their right to it ends: pictures and sockets that run on after a logout, a
//! changed password, a disabled account, a withdrawn permission, the end of a token's time. Also writes to the log
//! who watched and published what from when to when. What the rights are is decided by the `gate`.
//!
//! Start at [`Rights::running`] and [`Rights::review`].

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::accounts::audit::Event;
use crate::accounts::credentials::{Caller, Credential, address_text};
use crate::accounts::throttle::network_of;
use crate::accounts::{AccountError, Accounts};
use crate::gate::Gate;
use crate::ids::{SessionId, StreamId};
use crate::media::Engine;
use crate::signaling::driver::Switchboard;
use crate::signaling::grants::Way;

/// How often it is looked whether a token or ticket has run out.
const TICK: Duration = Duration::from_secs(1);

/// Each so many looks everything is gone through, whether or not a change was noticed.
const FULL_REVIEW: u64 = 30;

/// Pictures at once of one network, without an account.
const STRANGERS_OF_NETWORK: usize = 64;

/// A published stream of people that nobody publishes or watches is forgotten after this time.
const FORGOTTEN: Duration = Duration::from_secs(15);

/// A running picture, to somebody or from somebody.
struct Running {
    caller: Caller,
    stream: StreamId,
    way: Way,
    network: IpAddr,
    /// The log's entry, once it is written.
    entry: Option<i64>,
}

/// An open socket.
struct Socket {
    credential: Credential,
    /// The login name: rows may be used again for others.
    user: String,
    end: CancellationToken,
}

#[derive(Default)]
struct Live {
    sessions: HashMap<SessionId, Running>,
    sockets: HashMap<u64, Socket>,
    next_socket: u64,
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Rights {
    accounts: Accounts,
    gate: Gate,
    engine: Engine,
    switchboard: Switchboard,
    live: Arc<Mutex<Live>>,
}

/// A socket that is ended with its rights; dropping it takes it off the list.
pub struct SocketGuard {
    live: Arc<Mutex<Live>>,
    number: u64,
    /// Cancelled when the socket has to be closed.
    pub end: CancellationToken,
}

impl Drop for SocketGuard {
    fn drop(&mut self) {
        lock(&self.live).sockets.remove(&self.number);
    }
}

fn lock(live: &Mutex<Live>) -> std::sync::MutexGuard<'_, Live> {
    live.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who stands behind a credential now, if it is still the same one: only they may go on.
fn same_or_nobody(was: &Caller, now: Option<Caller>) -> Caller {
    now.filter(|now| now.actor() == was.actor()).unwrap_or(Caller::Nobody)
}

impl Rights {
    /// Nothing is running yet.
    pub fn new(accounts: Accounts, gate: Gate, engine: Engine, switchboard: Switchboard) -> Self {
        Self { accounts, gate, engine, switchboard, live: Arc::default() }
    }

    /// Whether somebody may have one more picture. Those without an account get so many for each network, and never
    /// all that there are: strangers must not shut out those who are logged in.
    pub fn has_room(&self, caller: &Caller, address: IpAddr) -> bool {
        if caller.identity().is_some() {
            return true;
        }
        let network = network_of(address);
        let live = lock(&self.live);
        let strangers = live.sessions.values().filter(|running| running.caller.identity().is_none());
        let (all, here) = strangers
            .fold((0, 0), |(all, here), running| (all + 1, here + usize::from(running.network == network)));
        here < STRANGERS_OF_NETWORK && all < self.engine.max_viewers() * 3 / 4
    }

    /// Who publishes a stream at the moment.
    pub fn publisher(&self, stream: &StreamId) -> Option<(SessionId, Option<Credential>)> {
        let live = lock(&self.live);
        let mut sessions = live.sessions.iter();
        let found = sessions.find(|(_, running)| running.way == Way::Publish && running.stream == *stream);
        found.map(|(session, running)| (*session, running.caller.credential()))
    }

    /// Somebody has begun to watch or publish a stream.
    pub async fn running(
        &self,
        session: SessionId,
        caller: &Caller,
        stream: &StreamId,
        way: Way,
        address: IpAddr,
    ) {
        let network = network_of(address);
        let running = Running { caller: caller.clone(), stream: stream.clone(), way, network, entry: None };
        lock(&self.live).sessions.insert(session, running);
        self.tell_picture(caller, stream, way, true).await;
        // Calls have a history of their own.
        if !stream.as_str().starts_with("call/") && !stream.as_str().starts_with("screen/") {
            let event = Event {
                actor: caller.actor(),
                address: address_text(Some(address)),
                action: if way == Way::Watch { "watch" } else { "publish" },
                target: name_of(stream).to_owned(),
                detail: String::new(),
            };
            match self.accounts.note(event).await {
                Ok(entry) => self.noted(session, entry).await,
                Err(error) => error!(%stream, "who watches is not written to the log: {error}"),
            }
        }
        // It may have ended, or lost its right, while its camera was starting and it was on no list.
        if !self.engine.has_session(&session) {
            self.ended(session).await;
        } else if !self.is_allowed_still(caller, stream, way).await {
            self.engine.close(session);
        }
    }

    /// Signaling wants to know whether those who watch people still do.
    async fn tell_picture(&self, caller: &Caller, stream: &StreamId, way: Way, began: bool) {
        if way == Way::Watch && stream.as_str().starts_with("user/") {
            self.switchboard.picture(&caller.actor(), stream.as_str(), began).await;
        }
    }

    /// The log has an entry for a session, which may be over by now.
    async fn noted(&self, session: SessionId, entry: i64) {
        if let Some(running) = lock(&self.live).sessions.get_mut(&session) {
            running.entry = Some(entry);
            return;
        }
        self.note_end(entry).await;
    }

    async fn is_allowed_still(&self, caller: &Caller, stream: &StreamId, way: Way) -> bool {
        let now = match caller.credential() {
            None => None,
            Some(credential) => self.accounts.behind(credential).await.unwrap_or_default(),
        };
        self.gate.allows(&same_or_nobody(caller, now), stream, way)
    }

    /// A socket of `user` is open.
    pub fn socket(&self, credential: Credential, user: String) -> SocketGuard {
        let end = CancellationToken::new();
        let mut live = lock(&self.live);
        live.next_socket += 1;
        let number = live.next_socket;
        live.sockets.insert(number, Socket { credential, user, end: end.clone() });
        SocketGuard { live: self.live.clone(), number, end }
    }

    async fn ended(&self, session: SessionId) {
        let Some(running) = lock(&self.live).sessions.remove(&session) else { return };
        self.tell_picture(&running.caller, &running.stream, running.way, false).await;
        if let Some(entry) = running.entry {
            self.note_end(entry).await;
        }
    }

    async fn note_end(&self, entry: i64) {
        if let Err(error) = self.accounts.note_end(entry).await {
            error!("the end of watching is not written to the log: {error}");
        }
    }

    /// Follows changes of rights, and sessions that end, until `stop`.
    pub async fn run(self, mut endings: UnboundedReceiver<SessionId>, stop: CancellationToken) {
        let mut changes = self.accounts.changes();
        let mut grants = self.gate.grants().changes();
        let mut forgotten = HashMap::new();
        let mut tick = tokio::time::interval(TICK);
        // Set until a review of everything has succeeded: an error must not let anybody go on.
        let mut due = false;
        let mut ticks = 0u64;
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let changed = tokio::select! {
                () = stop.cancelled() => return,
                Some(session) = endings.recv() => {
                    self.ended(session).await;
                    continue;
                }
                changed = changes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    if let Err(error) = self.gate.cameras().refresh().await {
                        error!("cameras are not read again: {error}");
                    }
                    true
                }
                Ok(()) = grants.changed() => {
                    self.review_grants();
                    continue;
                }
                _ = tick.tick() => {
                    self.forget_streams(&mut forgotten, Instant::now());
                    false
                }
            };
            ticks += 1;
            let everything = changed || due || ticks.is_multiple_of(FULL_REVIEW);
            due = match self.review(everything).await {
                Ok(()) => false,
                Err(error) => {
                    error!("rights are not reviewed, and will be again: {error}");
                    true
                }
            };
        }
    }

    /// Ends all that is not allowed any more; where not `everything`, then only what can run out by itself.
    ///
    /// # Errors
    /// The database's.
    pub async fn review(&self, everything: bool) -> Result<(), AccountError> {
        let concerned = |credential: &Credential| everything || !matches!(credential, Credential::Login(_));
        let credentials: HashSet<Credential> = {
            let live = lock(&self.live);
            let sessions = live.sessions.values().filter_map(|running| running.caller.credential());
            sessions.chain(live.sockets.values().map(|socket| socket.credential)).filter(concerned).collect()
        };
        let mut now: HashMap<Credential, Option<Caller>> = HashMap::new();
        for credential in credentials {
            now.insert(credential, self.accounts.behind(credential).await?);
        }
        for session in self.sessions_to_end(everything, &now) {
            info!(?session, "the right to a picture has ended");
            self.engine.close(session);
        }
        for socket in lock(&self.live).sockets.values() {
            let lost = now.get(&socket.credential).is_some_and(|caller| {
                caller.as_ref().is_none_or(|caller| !caller.actor().eq_ignore_ascii_case(&socket.user))
            });
            if lost {
                socket.end.cancel();
            }
        }
        Ok(())
    }

    /// Ends what signaling has taken back.
    fn review_grants(&self) {
        let lost: Vec<SessionId> = {
            let live = lock(&self.live);
            let granted = |running: &&Running| !running.stream.as_str().starts_with("camera/");
            let sessions = live.sessions.iter().filter(|(_, running)| granted(running));
            let lost = sessions.filter(|(_, run)| !self.gate.allows(&run.caller, &run.stream, run.way));
            lost.map(|(session, _)| *session).collect()
        };
        for session in lost {
            self.engine.close(session);
        }
    }

    /// Streams of people are there as long as somebody publishes or watches them.
    fn forget_streams(&self, idle: &mut HashMap<StreamId, Instant>, now: Instant) {
        let in_use: HashSet<StreamId> =
            lock(&self.live).sessions.values().map(|running| running.stream.clone()).collect();
        let streams = self.gate.streams();
        let unused: Vec<StreamId> =
            streams.all_passing().into_iter().filter(|id| !in_use.contains(id)).collect();
        idle.retain(|id, _| unused.contains(id));
        for id in unused {
            let since = *idle.entry(id.clone()).or_insert(now);
            if now.saturating_duration_since(since) >= FORGOTTEN
                && let Some(number) = streams.end_passing(&id)
            {
                self.engine.end_stream(number);
            }
        }
    }

    fn sessions_to_end(&self, everything: bool, now: &HashMap<Credential, Option<Caller>>) -> Vec<SessionId> {
        let live = lock(&self.live);
        let lost = |running: &Running| {
            let caller = match running.caller.credential() {
                None if !everything => return false,
                None => Caller::Nobody,
                Some(credential) => match now.get(&credential) {
                    // Not asked for this time.
                    None => return false,
                    Some(caller) => same_or_nobody(&running.caller, caller.clone()),
                },
            };
            !self.gate.allows(&caller, &running.stream, running.way)
        };
        live.sessions.iter().filter(|(_, running)| lost(running)).map(|(id, _)| *id).collect()
    }
}

/// As the log names a stream: cameras by their id.
fn name_of(stream: &StreamId) -> &str {
    stream.as_str().strip_prefix("camera/").unwrap_or(stream.as_str())
}
