//! Terminates sessions and sockets whose permission has ended: after a logout, a changed password, a disabled account,
//! a withdrawn permission, or the expiry of a token. Also writes to the audit log who watched and published what from
//! when to when. The list of sessions is kept by `registry`, the permissions are decided by the `gate`.
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

/// How often tokens and tickets are checked for expiry.
const TICK: Duration = Duration::from_secs(1);
/// How often streams are looked for that nobody uses any more.
const FORGET_TICK: Duration = Duration::from_secs(3);

/// After this many ticks everything is reviewed, even without a change.
const FULL_REVIEW: u64 = 30;

/// A user's or call's stream without publisher and viewers is removed after this time.
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

/// The current caller for a credential if it is still the same user, else [`Caller::Nobody`].
fn same_or_nobody(was: &Caller, now: Option<Caller>) -> Caller {
    // What a client of an older system may watch is in the configuration.
    if matches!(was, Caller::OldClient(_)) {
        return was.clone();
    }
    now.filter(|now| now.actor() == was.actor()).unwrap_or(Caller::Nobody)
}

impl Revocation {
    /// Creates it from its dependencies.
    pub fn new(
        registry: Registry,
        accounts: Accounts,
        gate: Gate,
        engine: Engine,
        switchboard: Switchboard,
    ) -> Self {
        Self { registry, accounts, gate, engine, switchboard }
    }

    /// The running sessions.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Registers the session of an admission, closes the one that it replaces, and writes the audit entry.
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
                Err(error) => error!(stream = %running.stream, "cannot write an audit entry: {error}"),
            }
        }
        // It may have ended or lost its permission before it was registered, while its camera was starting.
        if !self.engine.has_session(&session) {
            self.ended(session).await;
        } else if !self.is_still_allowed(&running).await {
            self.engine.close(session);
        }
    }

    /// Tells signaling when somebody starts or stops watching a user's camera.
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
            error!("cannot write the end of an audit entry: {error}");
        }
    }

    /// Handles ended sessions and changed permissions until `stop`. Three tasks, so that a long review of accounts
    /// delays neither the withdrawal of a consent nor the bookkeeping of ended sessions.
    pub fn run(&self, endings: UnboundedReceiver<SessionId>, stop: &CancellationToken) {
        tokio::spawn(self.clone().follow_endings(endings, stop.clone()));
        tokio::spawn(self.clone().follow_grants(stop.clone()));
        tokio::spawn(self.clone().follow_accounts(stop.clone()));
    }

    async fn follow_endings(self, mut endings: UnboundedReceiver<SessionId>, stop: CancellationToken) {
        let mut idle = HashMap::new();
        let mut tick = tokio::time::interval(FORGET_TICK);
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
        // Set until a full review has succeeded: an error must not keep revoked sessions alive.
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
                        error!("cannot reload the cameras: {error}");
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

    /// Terminates revoked sessions and sockets. Unless `everything`, only those whose credential is a token or ticket,
    /// which can expire.
    ///
    /// # Errors
    /// Database errors.
    pub async fn review(&self, everything: bool) -> Result<(), AccountError> {
        let concerned = |credential: &Credential| everything || !matches!(credential, Credential::Login(_));
        let credentials: HashSet<Credential> = {
            let live = self.registry.lock();
            let sessions = live.sessions.values().filter_map(|running| running.caller.credential());
            sessions.chain(live.sockets.values().map(|socket| socket.credential)).filter(concerned).collect()
        };
        // One database request, however many there are.
        let now = if credentials.is_empty() {
            HashMap::new()
        } else {
            self.accounts.behind_all(credentials.iter().copied().collect()).await?
        };
        for session in self.revoked_sessions(everything, &credentials, &now) {
            info!(?session, "permission revoked: session closed");
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
                None => same_or_nobody(&running.caller, None),
                Some(credential) if !asked.contains(&credential) => return false,
                Some(credential) => same_or_nobody(&running.caller, now.get(&credential).cloned()),
            };
            !self.gate.allows(&caller, &running.stream, running.direction)
        };
        live.sessions.iter().filter(|(_, running)| revoked(running)).map(|(id, _)| *id).collect()
    }

    /// Closes sessions whose grant signaling has withdrawn.
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

    /// Removes streams of users and calls that have been unused for [`FORGOTTEN`].
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

/// The target in the audit log: the id for cameras. Calls are not logged here: they have their own history.
fn audit_target(stream: &StreamName) -> Option<String> {
    match stream {
        StreamName::Camera(id) => Some(id.to_string()),
        StreamName::UserCamera(_) => Some(stream.to_string()),
        StreamName::Call { .. } | StreamName::Screen { .. } => None,
    }
}
