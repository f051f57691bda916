//! Signaling between people: presence and calls. Pure: [`Core::handle`] takes the current time and an input and
//! returns the outputs; it has no sockets, no clock and no randomness. `call` is the state machine of one call,
//! `watch` handles people's cameras, `journal` holds what outlives a broken connection, `message` defines the frames,
//! `vocabulary` the inputs and outputs. A driver owns the single core and feeds it.
//!
//! Start at [`Core::handle`]; at [`driver::Switchboard`] for the task that owns the core.

pub mod call;
mod calls;
pub mod driver;
pub mod grants;
pub mod journal;
mod limits;
pub mod message;
mod presence;
mod restore;
#[cfg(test)]
mod tests;
pub mod vocabulary;
pub mod watch;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::token_bucket::TokenBucket;
use call::{Reason, State};
use grants::Grant;
use journal::{Journal, REPLAY_TIME};
use message::{BadFrame, Hello, Refused, Request, error, parse, reply};
pub use vocabulary::{Conn, Directory, Input, Member, Output};

/// A connection must send its hello within this time.
pub const HELLO_LIMIT: Duration = Duration::from_secs(10);
/// A device without a socket still counts as online for this long: pages reload, networks change. Its calls and
/// frames are kept for longer.
const AWAY: Duration = Duration::from_secs(5);
/// Maximum number of devices per user.
const MAX_DEVICES: usize = 8;
/// A client's frames per second, sustained, and at once.
const FRAMES_PER_SECOND: u32 = 20;
const FRAMES_AT_ONCE: u32 = 60;
/// So many frames that are not taken, without a good one between them, end a connection.
const MAX_BAD: u32 = 20;

/// Application-defined close codes. This one: the login the socket belongs to has ended, or its account is gone.
pub const CLOSE_LOGIN_ENDED: u16 = 4401;
/// No hello arrived in time.
pub const CLOSE_NO_HELLO: u16 = 4408;
/// A newer connection of the same device has replaced this one.
pub const CLOSE_REPLACED: u16 = 4409;
/// Too many frames, or bad ones.
pub const CLOSE_ABUSE: u16 = 4429;

/// A user and one of their devices.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
struct DeviceKey {
    /// In lower case.
    user: String,
    device: String,
}

/// A socket before and after its hello.
#[derive(Debug)]
struct Socket {
    user: String,
    secret: u128,
    since: Instant,
    /// Set by the hello.
    device: Option<DeviceKey>,
    allowance: TokenBucket,
    bad: u32,
}

/// A device's session, with or without a socket.
#[derive(Debug)]
struct DeviceSession {
    secret: String,
    label: String,
    conn: Option<Conn>,
    /// When the socket was lost.
    lost_at: Option<Instant>,
    journal: Journal,
    /// When the device last sent a frame other than a ping.
    used_at: Instant,
    /// Without a socket for longer than [`AWAY`], so it no longer counts as online.
    away: bool,
}

/// A call in progress.
#[derive(Debug)]
struct Call {
    caller: DeviceKey,
    /// In lower case.
    callee: String,
    /// All ringing devices, then only the one that accepted.
    callee_devices: Vec<DeviceKey>,
    video: bool,
    state: State,
    since: Instant,
    accepted_at: Option<Instant>,
    held_by: Vec<String>,
}

impl Call {
    /// Whether a device takes part.
    fn has(&self, device: &DeviceKey) -> bool {
        self.caller == *device || self.callee_devices.contains(device)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Core {
    directory: Arc<Directory>,
    sockets: HashMap<Conn, Socket>,
    sessions: BTreeMap<DeviceKey, DeviceSession>,
    dnd: std::collections::BTreeSet<String>,
    calls: BTreeMap<u64, Call>,
    next_call: u64,
    cameras: BTreeMap<String, watch::Camera>,
    /// Sent to every client in its welcome.
    config: Value,
    limits: limits::Limits,
    /// Set by the first input.
    started: Option<Instant>,
    /// Numbers of calls up to this one may be of the server before this one.
    first_call: u64,
    /// Sides of its calls that have come back.
    restoring: BTreeMap<restore::Claimed, restore::Waiting>,
    grants_changed: bool,
    news: presence::News,
    outputs: Vec<Output>,
}

impl Core {
    /// Starts with nobody online. Call ids continue after `last_call`, so that they stay unique across restarts.
    /// `config` is sent to every client in its welcome.
    pub fn new(directory: Arc<Directory>, last_call: u64, config: Value) -> Self {
        Self { directory, next_call: last_call, first_call: last_call, config, ..Self::default() }
    }

    /// All current grants, if they have changed since the last call of this function.
    pub fn new_grants(&mut self) -> Option<Vec<Grant>> {
        if !std::mem::take(&mut self.grants_changed) {
            return None;
        }
        let mut grants = Vec::new();
        self.watch_grants(&mut grants);
        self.call_grants(&mut grants);
        Some(grants)
    }

    /// Processes one input; returns the resulting outputs in order.
    pub fn handle(&mut self, now: Instant, input: Input) -> Vec<Output> {
        self.started.get_or_insert(now);
        match input {
            Input::Connected { conn, user, secret } => self.connected(now, conn, &user, secret),
            Input::Frame { conn, text } => self.frame(now, conn, &text),
            Input::Disconnected { conn, for_good } => self.disconnected(now, conn, for_good),
            Input::Picture { user, stream, began } => self.picture(now, &user, &stream, began),
            Input::Directory(directory) => self.new_directory(now, directory),
            Input::Tick => self.expire(now),
        }
        std::mem::take(&mut self.outputs)
    }

    /// Whether somebody is in the directory.
    pub fn knows(&self, user: &str) -> bool {
        self.directory.members.contains_key(&user.to_lowercase())
    }

    /// Whether there is anything that may expire.
    pub fn is_occupied(&self) -> bool {
        !(self.sockets.is_empty()
            && self.sessions.is_empty()
            && self.calls.is_empty()
            && self.cameras.is_empty()
            && self.restoring.is_empty())
    }

    /// The latest time at which the next [`Input::Tick`] is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        let hellos = self.sockets.values().filter(|socket| socket.device.is_none());
        let hellos = hellos.map(|socket| socket.since + HELLO_LIMIT);
        let sessions = self.sessions.values().filter_map(DeviceSession::deadline);
        let calls = self.calls.values().filter_map(|call| call::deadline(call.state, call.since));
        let watches = self.cameras.values().filter_map(watch::Camera::deadline);
        hellos
            .chain(sessions)
            .chain(calls)
            .chain(watches)
            .chain(self.news.deadline())
            .chain(self.claims_deadline())
            .min()
    }

    fn connected(&mut self, now: Instant, conn: Conn, user: &str, secret: u128) {
        let socket = Socket {
            user: user.to_lowercase(),
            secret,
            since: now,
            device: None,
            allowance: TokenBucket::new(FRAMES_AT_ONCE, FRAMES_PER_SECOND, Duration::from_secs(1)),
            bad: 0,
        };
        self.sockets.insert(conn, socket);
    }

    fn frame(&mut self, now: Instant, conn: Conn, text: &str) {
        let Some(socket) = self.sockets.get_mut(&conn) else { return };
        if !socket.allowance.take(now) {
            return self.refuse(conn, None, "too_many_frames");
        }
        let (id, request) = match parse(text) {
            Ok(read) => read,
            Err(BadFrame { id, code }) => return self.refuse(conn, id.as_deref(), code),
        };
        socket.bad = 0;
        match (socket.device.clone(), request) {
            (None, Request::Hello(hello)) => self.hello(now, conn, id.as_deref(), hello),
            (None, _) => self.refuse(conn, id.as_deref(), "hello_first"),
            (Some(_), Request::Hello(_)) => self.refuse(conn, id.as_deref(), "hello_again"),
            (Some(device), request) => self.answer(now, &device, id.as_deref(), request),
        }
    }

    /// Refuses a frame with an error. Too many refused frames in a row close the connection.
    fn refuse(&mut self, conn: Conn, id: Option<&str>, code: &'static str) {
        let Some(socket) = self.sockets.get_mut(&conn) else { return };
        socket.bad += 1;
        let too_much = socket.bad > MAX_BAD;
        self.outputs.push(Output::Send(conn, error(id, code).into()));
        if too_much {
            self.outputs.push(Output::Close(conn, CLOSE_ABUSE, "abuse"));
        }
    }

    fn hello(&mut self, now: Instant, conn: Conn, id: Option<&str>, hello: Hello) {
        let Some(socket) = self.sockets.get(&conn) else { return };
        let key = DeviceKey { user: socket.user.clone(), device: hello.device };
        if !self.directory.members.contains_key(&key.user) {
            return self.refuse(conn, id, "not_allowed");
        }
        let of_user = self.sessions.keys().filter(|other| other.user == key.user && **other != key).count();
        let secret = format!("{:032x}", socket.secret);
        if of_user >= MAX_DEVICES && !self.make_room(now, &key.user) {
            return self.refuse(conn, id, "too_many_devices");
        }
        let was_online = self.is_online(&key.user);
        let old = self.sessions.get(&key).and_then(|session| session.conn);
        if let Some(old) = old {
            self.sockets.remove(&old);
            self.outputs.push(Output::Close(old, CLOSE_REPLACED, "replaced"));
        }
        if let Some(socket) = self.sockets.get_mut(&conn) {
            socket.device = Some(key.clone());
        }
        if let Some(resume) = hello.resume
            && let Some(session) = self.sessions.get_mut(&key)
            && session.secret == resume.session
            && let Some(missed) = session.journal.since(now, resume.last_seq)
        {
            (session.conn, session.lost_at, session.away) = (Some(conn), None, false);
            session.label = hello.label;
            let welcome = json!({ "type": "welcome", "re": id, "body": {
                "session": session.secret, "resumed": true, "seq": session.journal.seq() } });
            self.outputs.push(Output::Send(conn, welcome.to_string().into()));
            self.outputs.push(Output::SendAll(conn, missed.into()));
            self.send_people(conn, &key.user);
        } else {
            // A new session replaces the device's old one; the welcome's snapshot contains its calls and watches.
            let journal = Journal::default();
            let (label, conn) = (hello.label, Some(conn));
            let session =
                DeviceSession { secret, label, conn, lost_at: None, journal, used_at: now, away: false };
            self.sessions.insert(key.clone(), session);
            self.watcher_anew(now, &key);
            self.welcome(id, &key);
        }
        self.watcher_connected(now, &key, true);
        self.look_for_publisher(now, &key.user);
        if !was_online {
            self.tell_presence(now, &key.user);
        }
    }

    /// Drops the device that has been without a socket for the longest time, probably a closed tab.
    fn make_room(&mut self, now: Instant, user: &str) -> bool {
        let lost = self.devices_of(user).filter_map(|key| Some((self.sessions.get(key)?.lost_at?, key)));
        let Some((_, key)) = lost.min() else { return false };
        let key = key.clone();
        self.drop_session(now, &key, Reason::Lost);
        true
    }

    fn welcome(&mut self, id: Option<&str>, key: &DeviceKey) {
        let Some(DeviceSession { secret, conn: Some(conn), .. }) = self.sessions.get(key) else { return };
        let (conn, secret) = (*conn, secret.clone());
        let welcome = json!({ "type": "welcome", "re": id, "body": {
            "session": secret, "resumed": false, "seq": 0, "you": key.user, "dnd": self.dnd.contains(&key.user),
            "calls": self.calls_of(key), "watched": self.watched_view(key),
            "questions": self.questions(&key.user), "config": self.config } });
        self.outputs.push(Output::Send(conn, welcome.to_string().into()));
        self.send_people(conn, &key.user);
    }

    fn answer(&mut self, now: Instant, device: &DeviceKey, id: Option<&str>, request: Request) {
        if let Some(id) = id
            && let Some(answer) =
                self.sessions.get(device).and_then(|session| session.journal.answered(id)).cloned()
        {
            return self.push(now, device, answer);
        }
        let result = self.act(now, device, request);
        let Some(id) = id else { return };
        let answer = reply(id, result);
        if let Some(session) = self.sessions.get_mut(device) {
            session.journal.remember(id, answer.clone());
        }
        self.push(now, device, answer);
    }

    fn act(&mut self, now: Instant, device: &DeviceKey, request: Request) -> Result<Value, Refused> {
        if request != Request::Ping
            && let Some(session) = self.sessions.get_mut(device)
        {
            session.used_at = now;
        }
        match request {
            Request::Hello(_) | Request::Ping => Ok(json!({})),
            Request::SetDnd(dnd) => {
                let changed =
                    if dnd { self.dnd.insert(device.user.clone()) } else { self.dnd.remove(&device.user) };
                if changed {
                    self.tell_presence(now, &device.user);
                }
                Ok(json!({}))
            }
            Request::Invite { to, video } => self.invite(now, device, &to, video),
            Request::Claim(claim) => Ok(self.claim(now, device, &claim)?),
            Request::Accept { call, hold } => Ok(self.accept(now, device, call, hold)?),
            Request::Reject { call, message } => {
                Ok(self.on_call(now, device, call, call::Event::Reject, &json!(message))?)
            }
            Request::HangUp { call, .. } if self.withdraw_claim(device, call) => Ok(json!({})),
            Request::HangUp { call, failed } => {
                let event = if failed { call::Event::Fail } else { call::Event::HangUp };
                Ok(self.on_call(now, device, call, event, &Value::Null)?)
            }
            Request::Connected { call } => {
                Ok(self.on_call(now, device, call, call::Event::Connected, &Value::Null)?)
            }
            Request::Signal { call, payload } => {
                Ok(self.on_call(now, device, call, call::Event::Signal, &payload)?)
            }
            Request::Hold { call, held } => {
                Ok(self.on_call(now, device, call, call::Event::Hold, &json!(held))?)
            }
            Request::Watch { to } => self.start_watching(now, device, &to),
            Request::StopWatching { to } => {
                self.stop_watching(now, device, &to);
                Ok(json!({}))
            }
            Request::AnswerWatcher { watcher, allow } => {
                Ok(self.answer_watcher(now, device, &watcher, allow)?)
            }
            Request::StopBeingWatched { watcher } => {
                self.stop_being_watched(now, device, watcher.as_deref());
                Ok(json!({}))
            }
            Request::CameraFailed { code } => {
                self.camera_failed(now, device, &code);
                Ok(json!({}))
            }
        }
    }

    /// Sends a numbered frame to a device, now or when it reconnects.
    fn push(&mut self, now: Instant, device: &DeviceKey, frame: Value) {
        let Some(session) = self.sessions.get_mut(device) else { return };
        let text = session.journal.number(now, frame);
        if let Some(conn) = session.conn {
            self.outputs.push(Output::Send(conn, text));
        }
    }

    /// Sends the same frame to all devices of a user.
    fn push_all(&mut self, now: Instant, user: &str, frame: &Value) {
        let devices: Vec<DeviceKey> = self.devices_of(user).cloned().collect();
        for device in devices {
            self.push(now, &device, frame.clone());
        }
    }

    fn disconnected(&mut self, now: Instant, conn: Conn, for_good: bool) {
        let Some(socket) = self.sockets.remove(&conn) else { return };
        let Some(device) = socket.device else { return };
        if let Some(session) = self.sessions.get_mut(&device)
            && session.conn == Some(conn)
        {
            (session.conn, session.lost_at) = (None, Some(now));
            if for_good {
                return self.drop_session(now, &device, Reason::Withdrawn);
            }
            self.watcher_connected(now, &device, false);
        }
    }

    fn new_directory(&mut self, now: Instant, directory: Arc<Directory>) {
        let before = std::mem::replace(&mut self.directory, directory);
        if before == self.directory {
            return;
        }
        let gone: Vec<DeviceKey> = self
            .sessions
            .keys()
            .filter(|key| !self.directory.members.contains_key(&key.user))
            .cloned()
            .collect();
        for key in gone {
            self.drop_session(now, &key, Reason::Withdrawn);
        }
        self.withdraw_calls(now);
        self.withdraw_watches(now);
        self.new_preferences(now, &before);
        if before.looks_other_than(&self.directory) {
            self.tell_people();
        }
    }

    /// Handles everything whose deadline has passed.
    fn expire(&mut self, now: Instant) {
        let late: Vec<Conn> = self
            .sockets
            .iter()
            .filter(|(_, socket)| socket.device.is_none() && now >= socket.since + HELLO_LIMIT)
            .map(|(conn, _)| *conn)
            .collect();
        for conn in late {
            self.sockets.remove(&conn);
            self.outputs.push(Output::Close(conn, CLOSE_NO_HELLO, "no_hello"));
        }
        let gone_away =
            |session: &DeviceSession| !session.away && session.lost_at.is_some_and(|at| now >= at + AWAY);
        let away: Vec<DeviceKey> = self
            .sessions
            .iter()
            .filter(|(_, session)| gone_away(session))
            .map(|(key, _)| key.clone())
            .collect();
        for key in away {
            if let Some(session) = self.sessions.get_mut(&key) {
                session.away = true;
            }
            self.tell_presence(now, &key.user);
            self.look_for_publisher(now, &key.user);
        }
        let lost = |session: &DeviceSession| session.lost_at.is_some_and(|at| now >= at + REPLAY_TIME);
        let gone: Vec<DeviceKey> =
            self.sessions.iter().filter(|(_, session)| lost(session)).map(|(key, _)| key.clone()).collect();
        for key in gone {
            self.drop_session(now, &key, Reason::Lost);
        }
        self.expire_calls(now);
        self.expire_claims(now);
        self.limits.forget(now);
        self.expire_watches(now);
        self.flush_presence(now);
    }

    fn drop_session(&mut self, now: Instant, key: &DeviceKey, reason: Reason) {
        let Some(session) = self.sessions.remove(key) else { return };
        if let Some(conn) = session.conn {
            self.sockets.remove(&conn);
            self.outputs.push(Output::Close(conn, CLOSE_LOGIN_ENDED, "login_ended"));
        }
        self.drop_claims(key);
        self.device_gone(now, key, reason);
        self.watch_device_gone(now, key);
        if !self.is_online(&key.user) {
            self.dnd.remove(&key.user);
            self.tell_presence(now, &key.user);
        }
    }
}

/// Whether a device has a socket at this moment.
fn is_connected(sessions: &BTreeMap<DeviceKey, DeviceSession>, key: &DeviceKey) -> bool {
    sessions.get(key).is_some_and(|session| session.conn.is_some())
}

impl DeviceSession {
    /// When the device, having lost its socket, next becomes away or is dropped.
    fn deadline(&self) -> Option<Instant> {
        self.lost_at.map(|at| at + if self.away { REPLAY_TIME } else { AWAY })
    }
}
