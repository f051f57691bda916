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
use crate::accounts::{AccountError, Accounts};
use crate::cameras::Cameras;
use crate::ids::SessionId;
use crate::media::Engine;

/// How often it is looked whether a token or ticket has run out.
const TICK: Duration = Duration::from_secs(1);

/// A running picture.
struct Watching {
    caller: Caller,
    camera: String,
    /// The log's entry, once it is written.
    entry: Option<i64>,
}

/// An open socket.
struct Socket {
    credential: Credential,
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

impl Rights {
    /// Nothing is running yet.
    pub fn new(accounts: Accounts, cameras: Cameras, engine: Engine) -> Self {
        Self { accounts, cameras, engine, live: Arc::default() }
    }

    /// Somebody has begun to watch a camera.
    pub async fn watching(&self, session: SessionId, caller: &Caller, camera: &str, address: IpAddr) {
        let watching = Watching { caller: caller.clone(), camera: camera.to_owned(), entry: None };
        lock(&self.live).sessions.insert(session, watching);
        let event = Event {
            actor: caller.actor(),
            address: address_text(Some(address)),
            action: "watch",
            target: camera.to_owned(),
            detail: String::new(),
        };
        let entry = match self.accounts.note(event).await {
            Ok(entry) => entry,
            Err(error) => return error!(camera, "who watches is not written to the log: {error}"),
        };
        if let Some(watching) = lock(&self.live).sessions.get_mut(&session) {
            watching.entry = Some(entry);
        } else {
            self.note_end(entry).await;
        }
        // It may have ended, or lost its right, before it was on the list.
        if !self.engine.has_session(&session) {
            self.ended(session).await;
        }
    }

    /// A socket is open.
    pub fn socket(&self, credential: Credential) -> SocketGuard {
        let end = CancellationToken::new();
        let mut live = lock(&self.live);
        live.next_socket += 1;
        let number = live.next_socket;
        live.sockets.insert(number, Socket { credential, end: end.clone() });
        SocketGuard { live: self.live.clone(), number, end }
    }

    async fn ended(&self, session: SessionId) {
        let entry = lock(&self.live).sessions.remove(&session).and_then(|watching| watching.entry);
        if let Some(entry) = entry {
            self.note_end(entry).await;
        }
    }

    async fn note_end(&self, entry: i64) {
        if let Err(error) = self.accounts.note_end(entry, None).await {
            error!("the end of watching is not written to the log: {error}");
        }
    }

    /// Follows changes of rights, and sessions that end, until `stop`.
    pub async fn run(self, mut endings: UnboundedReceiver<SessionId>, stop: CancellationToken) {
        let mut changes = self.accounts.changes();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let everything = tokio::select! {
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
            if let Err(error) = self.review(everything).await {
                error!("rights are not reviewed: {error}");
            }
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
            if matches!(now.get(&socket.credential), Some(None)) {
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
                    Some(caller) => caller.clone().unwrap_or(Caller::Nobody),
                },
            };
            let Some(entry) = self.cameras.get(&watching.camera) else { return true };
            !self.accounts.may(&caller, Action::WatchCamera(&entry.rule))
        };
        live.sessions.iter().filter(|(_, watching)| lost(watching)).map(|(id, _)| *id).collect()
    }
}
