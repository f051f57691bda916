//! Ends what somebody is doing when their right to it ends: pictures and sockets that run on after a logout, a
//! changed password, a disabled account, a withdrawn permission, the end of a token's time. Also writes to the audit
//! log who watched and published what from when to when. What is running is `registry`'s, what the rights are is
//! decided by the `gate`.
//!
//! Start at [`Revocation::began`] and [`Revocation::review`].

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::registry::{Admission, Registry, Running};
use crate::accounts::audit::Event;
use crate::accounts::credentials::{Caller, Credential, address_text};
use crate::accounts::{AccountError, Accounts};
use crate::compartment;
use crate::gate::Gate;
use crate::ids::SessionId;
use crate::media::Engine;
use crate::names::StreamName;
use crate::signaling::driver::Switchboard;
use crate::signaling::grants::Direction;

/// How often tokens and tickets are checked for the end of their time.
const TICK: Duration = Duration::from_secs(1);

/// After so many ticks everything is reviewed, whether or not a change was noticed.
const FULL_REVIEW: u64 = 30;

/// A published stream of people that nobody publishes or watches is forgotten after this time.
const FORGOTTEN: Duration = Duration::from_secs(15);

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Revocation {
    registry: Registry,
    accounts: Accounts,
    gate: Gate,
    engine: Engine,
    switchboard: Switchboard,
}

/// Who stands behind a credential now, if it is still the same one: only they may go on.
fn same_or_nobody(was: &Caller, now: Option<Caller>) -> Caller {
    now.filter(|now| now.actor() == was.actor()).unwrap_or(Caller::Nobody)
}

impl Revocation {
    /// Over these.
    pub fn new(
        registry: Registry,
        accounts: Accounts,
        gate: Gate,
        engine: Engine,
        switchboard: Switchboard,
    ) -> Self {
        Self { registry, accounts, gate, engine, switchboard }
    }

    /// What is running.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The session of an admission has begun.
    pub async fn began(&self, admission: Admission, session: SessionId, address: IpAddr) {
        let replaced = admission.replaces;
        let Some(running) = self.registry.begin(admission, session) else { return };
        if let Some(replaced) = replaced {
            self.engine.close(replaced);
        }
        self.tell_picture(&running, true).await;
        if let Some(target) = audit_target(&running.stream) {
            let event = Event {
                actor: running.caller.actor(),
                address: address_text(Some(address)),
                action: if running.direction == Direction::Watch { "watch" } else { "publish" },
                target,
                detail: String::new(),
            };
            match self.accounts.note(event).await {
                Ok(entry) if self.registry.set_entry(session, entry) => {}
                Ok(entry) => self.note_end(entry).await,
                Err(error) => error!(stream = %running.stream, "audit entry not written: {error}"),
            }
        }
        // It may have ended, or lost its right, while its camera was starting and it was on no list.
        if !self.engine.has_session(&session) {
            self.ended(session).await;
        } else if !self.is_still_allowed(&running).await {
            self.engine.close(session);
        }
    }

    /// Signaling needs to know whether those who watch a person still do.
    async fn tell_picture(&self, running: &Running, began: bool) {
        if let (Direction::Watch, StreamName::UserCamera(_)) = (running.direction, &running.stream) {
            self.switchboard.picture(&running.caller.actor(), &running.stream, began).await;
        }
    }

    async fn is_still_allowed(&self, running: &Running) -> bool {
        let now = match running.caller.credential() {
            None => None,
            Some(credential) => self.accounts.behind(credential).await.unwrap_or_default(),
        };
        self.gate.allows(&same_or_nobody(&running.caller, now), &running.stream, running.direction)
    }

    async fn ended(&self, session: SessionId) {
        let Some(running) = self.registry.remove(session) else { return };
        self.tell_picture(&running, false).await;
        if let Some(entry) = running.entry {
            self.note_end(entry).await;
        }
    }

    async fn note_end(&self, entry: i64) {
        if let Err(error) = self.accounts.note_end(entry).await {
            error!("the end of an audit entry is not written: {error}");
        }
    }

    /// Follows what ends and what changes, until `stop`. Three tasks: a long review of accounts delays neither the
    /// withdrawal of a consent nor the bookkeeping of sessions that end.
    pub fn run(&self, endings: UnboundedReceiver<SessionId>, stop: &CancellationToken) {
        tokio::spawn(self.clone().follow_endings(endings, stop.clone()));
        tokio::spawn(self.clone().follow_grants(stop.clone()));
        tokio::spawn(self.clone().follow_accounts(stop.clone()));
    }

    async fn follow_endings(self, mut endings: UnboundedReceiver<SessionId>, stop: CancellationToken) {
        let mut idle = HashMap::new();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Some(session) = endings.recv() => self.ended(session).await,
                _ = tick.tick() => self.forget_streams(&mut idle, Instant::now()),
            }
        }
    }

    async fn follow_grants(self, stop: CancellationToken) {
        let mut grants = self.gate.grants().changes();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Ok(()) = grants.changed() => self.review_grants(),
            }
        }
    }

    async fn follow_accounts(self, stop: CancellationToken) {
        let mut changes = self.accounts.changes();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // Set until a review of everything has succeeded: an error must not let anybody go on.
        let mut due = false;
        let mut ticks = 0u64;
        loop {
            let changed = tokio::select! {
                () = stop.cancelled() => return,
                changed = changes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    if let Err(error) = self.gate.cameras().refresh().await {
                        error!("cameras not reloaded: {error}");
                    }
                    true
                }
                _ = tick.tick() => false,
            };
            ticks += 1;
            let everything = changed || due || ticks.is_multiple_of(FULL_REVIEW);
            due = match compartment::run_async(self.review(everything)).await {
                Ok(Ok(())) => false,
                Ok(Err(error)) => {
                    error!("review of rights failed, will be repeated: {error}");
                    true
                }
                Err(panicked) => {
                    error!(code = "internal", "review of rights failed, will be repeated: {panicked}");
                    true
                }
            };
        }
    }

    /// Terminates revoked sessions and sockets; where not `everything`, only those that can expire by themselves.
    ///
    /// # Errors
    /// The database's.
    pub async fn review(&self, everything: bool) -> Result<(), AccountError> {
        let concerned = |credential: &Credential| everything || !matches!(credential, Credential::Login(_));
        let credentials: HashSet<Credential> = {
            let live = self.registry.lock();
            let sessions = live.sessions.values().filter_map(|running| running.caller.credential());
            sessions.chain(live.sockets.values().map(|socket| socket.credential)).filter(concerned).collect()
        };
        // One look at the database, however many there are.
        let now = if credentials.is_empty() {
            HashMap::new()
        } else {
            self.accounts.behind_all(credentials.iter().copied().collect()).await?
        };
        for session in self.revoked_sessions(everything, &credentials, &now) {
            info!(?session, "right revoked: session closed");
            self.engine.close(session);
        }
        for socket in self.registry.lock().sockets.values() {
            let revoked = credentials.contains(&socket.credential)
                && now
                    .get(&socket.credential)
                    .is_none_or(|caller| !caller.actor().eq_ignore_ascii_case(&socket.user));
            if revoked {
                socket.end.cancel();
            }
        }
        Ok(())
    }

    fn revoked_sessions(
        &self,
        everything: bool,
        asked: &HashSet<Credential>,
        now: &HashMap<Credential, Caller>,
    ) -> Vec<SessionId> {
        let live = self.registry.lock();
        let revoked = |running: &Running| {
            let caller = match running.caller.credential() {
                None if !everything => return false,
                None => Caller::Nobody,
                Some(credential) if !asked.contains(&credential) => return false,
                Some(credential) => same_or_nobody(&running.caller, now.get(&credential).cloned()),
            };
            !self.gate.allows(&caller, &running.stream, running.direction)
        };
        live.sessions.iter().filter(|(_, running)| revoked(running)).map(|(id, _)| *id).collect()
    }

    /// Closes what signaling has withdrawn.
    fn review_grants(&self) {
        let revoked: Vec<SessionId> = {
            let live = self.registry.lock();
            let granted = |running: &Running| running.stream.camera_id().is_none();
            let allowed = |run: &Running| self.gate.allows(&run.caller, &run.stream, run.direction);
            let sessions = live.sessions.iter().filter(|(_, running)| granted(running) && !allowed(running));
            sessions.map(|(session, _)| *session).collect()
        };
        for session in revoked {
            self.engine.close(session);
        }
    }

    /// Streams of people exist as long as somebody publishes or watches them.
    fn forget_streams(&self, idle: &mut HashMap<StreamName, Instant>, now: Instant) {
        let in_use = self.registry.streams();
        let streams = self.gate.streams();
        let unused: Vec<StreamName> =
            streams.all_passing().into_iter().filter(|name| !in_use.contains(name)).collect();
        idle.retain(|name, _| unused.contains(name));
        for name in unused {
            let since = *idle.entry(name.clone()).or_insert(now);
            if now.saturating_duration_since(since) >= FORGOTTEN
                && let Some(number) = streams.end_passing(&name)
            {
                self.engine.end_stream(number);
            }
        }
    }
}

/// As the audit log names a stream: cameras by their id. Calls have a history of their own.
fn audit_target(stream: &StreamName) -> Option<String> {
    match stream {
        StreamName::Camera(id) => Some(id.to_string()),
        StreamName::UserCamera(_) => Some(stream.to_string()),
        StreamName::Call { .. } | StreamName::Screen { .. } => None,
    }
}
