//! Ends what somebody is doing when their right to it ends: pictures and sockets that run on after a logout, a
//! changed password, a disabled account, a withdrawn permission, the end of a token's time. Also writes to the log
//! who watched what from when to when. What the rights are is decided elsewhere.
//!
//! Start at [`Rights::watching`] and [`Rights::review`].

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::accounts::audit::Event;
use crate::accounts::credentials::{Caller, Credential, address_text};
use crate::accounts::permissions::Action;
use crate::accounts::throttle::network_of;
use crate::accounts::{AccountError, Accounts};
use crate::cameras::Cameras;
use crate::ids::SessionId;
use crate::media::Engine;

/// How often it is looked whether a token or ticket has run out.
const TICK: Duration = Duration::from_secs(1);

/// Each so many looks everything is gone through, whether or not a change was noticed.
const FULL_REVIEW: u64 = 30;

/// Pictures at once of one network, without an account.
const STRANGERS_OF_NETWORK: usize = 64;

/// A running picture.
struct Watching {
    caller: Caller,
    camera: String,
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
    sessions: HashMap<SessionId, Watching>,
    sockets: HashMap<u64, Socket>,
    next_socket: u64,
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Rights {
    accounts: Accounts,
    cameras: Cameras,
    engine: Engine,
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
    pub fn new(accounts: Accounts, cameras: Cameras, engine: Engine) -> Self {
        Self { accounts, cameras, engine, live: Arc::default() }
    }

    /// Whether somebody may have one more picture. Those without an account get so many for each network, and never
    /// all that there are: strangers must not shut out those who are logged in.
    pub fn has_room(&self, caller: &Caller, address: IpAddr) -> bool {
        if caller.identity().is_some() {
            return true;
        }
        let network = network_of(address);
        let live = lock(&self.live);
        let strangers = live.sessions.values().filter(|watching| watching.caller.identity().is_none());
        let (all, here) = strangers
            .fold((0, 0), |(all, here), watching| (all + 1, here + usize::from(watching.network == network)));
        here < STRANGERS_OF_NETWORK && all < self.engine.max_viewers() * 3 / 4
    }

    /// Somebody has begun to watch a camera.
    pub async fn watching(&self, session: SessionId, caller: &Caller, camera: &str, address: IpAddr) {
        let network = network_of(address);
        let watching = Watching { caller: caller.clone(), camera: camera.to_owned(), network, entry: None };
        lock(&self.live).sessions.insert(session, watching);
        let event = Event {
            actor: caller.actor(),
            address: address_text(Some(address)),
            action: "watch",
            target: camera.to_owned(),
            detail: String::new(),
        };
        match self.accounts.note(event).await {
            Ok(entry) => self.noted(session, entry).await,
            Err(error) => error!(camera, "who watches is not written to the log: {error}"),
        }
        // It may have ended, or lost its right, while its camera was starting and it was on no list.
        if !self.engine.has_session(&session) {
            self.ended(session).await;
        } else if !self.is_allowed_still(caller, camera).await {
            self.engine.close(session);
        }
    }

    /// The log has an entry for a session, which may be over by now.
    async fn noted(&self, session: SessionId, entry: i64) {
        if let Some(watching) = lock(&self.live).sessions.get_mut(&session) {
            watching.entry = Some(entry);
            return;
        }
        self.note_end(entry).await;
    }

    async fn is_allowed_still(&self, caller: &Caller, camera: &str) -> bool {
        let Some(entry) = self.cameras.get(camera) else { return false };
        let now = match caller.credential() {
            None => None,
            Some(credential) => self.accounts.behind(credential).await.unwrap_or_default(),
        };
        self.accounts.may(&same_or_nobody(caller, now), Action::WatchCamera(&entry.rule))
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
        let entry = lock(&self.live).sessions.remove(&session).and_then(|watching| watching.entry);
        if let Some(entry) = entry {
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
                    if let Err(error) = self.cameras.refresh().await {
                        error!("cameras are not read again: {error}");
                    }
                    true
                }
                _ = tick.tick() => false,
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
            let sessions = live.sessions.values().filter_map(|watching| watching.caller.credential());
            sessions.chain(live.sockets.values().map(|socket| socket.credential)).filter(concerned).collect()
        };
        let mut now: HashMap<Credential, Option<Caller>> = HashMap::new();
        for credential in credentials {
            now.insert(credential, self.accounts.behind(credential).await?);
        }
        for session in self.sessions_to_end(everything, &now) {
            info!(?session, "a viewer's right has ended");
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

    fn sessions_to_end(&self, everything: bool, now: &HashMap<Credential, Option<Caller>>) -> Vec<SessionId> {
        let live = lock(&self.live);
        let lost = |watching: &Watching| {
            let caller = match watching.caller.credential() {
                None if !everything => return false,
                None => Caller::Nobody,
                Some(credential) => match now.get(&credential) {
                    // Not asked for this time.
                    None => return false,
                    Some(caller) => same_or_nobody(&watching.caller, caller.clone()),
                },
            };
            let Some(entry) = self.cameras.get(&watching.camera) else { return true };
            !self.accounts.may(&caller, Action::WatchCamera(&entry.rule))
        };
        live.sessions.iter().filter(|(_, watching)| lost(watching)).map(|(id, _)| *id).collect()
    }
}
