//! One thread of the media engine. It exclusively owns its peers and its copies of their streams; other threads send
//! it messages. No lock is taken while packets are forwarded. Start at [`Shard::run`].

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rtc::crypto::RTCCryptoProvider;
use tokio::sync::oneshot;
use tracing::{debug, error, warn};

use crate::compartment;
use crate::ids::SessionId;
use crate::media::early::EarlyHandshakes;
use crate::media::inbox::{Inbox, ShardHandle};
use crate::media::peer::{Effects, NewPeer, Peer};
use crate::media::session::answer::restart_fragment;
use crate::media::subscribe::ring::Ring;
use crate::media::subscribe::subscriber::GsoBatch;
use crate::media::transport::dtls::Identity;
use crate::media::transport::ice::{self, Credentials, Shared};
use crate::media::transport::path::{ConnectionId, Path, Via};
use crate::media::transport::routes::{Routes, new_credentials};
use crate::media::transport::socket::{Egress, TcpSender};
use crate::media::transport::stun;
use crate::streams::StreamHandle;
use crate::streams::packet::{Clocks, SharedBatch};
use crate::streams::stream::Command;

mod streams;

use streams::Watched;

/// Messages taken from one queue before the other queues and the clock get their turn.
const BURST: usize = 256;
/// …and datagrams from unproven addresses.
const STRANGERS_BURST: usize = 32;
/// Tick intervals: during a paced replay, while a peer is connecting or publishing, otherwise, and without peers.
const FAST_TICK: Duration = Duration::from_millis(5);
const BUSY_TICK: Duration = Duration::from_millis(20);
const IDLE_TICK: Duration = Duration::from_millis(100);
const EMPTY_TICK: Duration = Duration::from_secs(10);

/// A message to a shard that must arrive.
pub enum Control {
    /// An ICE-TCP connection was opened.
    TcpOpened(ConnectionId, TcpSender),
    /// It was closed.
    TcpClosed(ConnectionId),
    /// The replay that a new subscription begins with, if the media queue is full.
    Replay(u64, SharedBatch),
    /// A new viewer of a stream.
    Watch(Box<NewPeer>, StreamHandle),
    /// A new publisher.
    Publish(Box<NewPeer>),
    /// A viewer wants another layer of its stream.
    Layer(SessionId, StreamHandle),
    /// A publisher should be asked for a key frame.
    KeyFrame(SessionId),
    /// A viewer or publisher leaves.
    Remove(SessionId),
    /// A stream has ended: its viewers are removed.
    EndStream(u64),
    /// More candidates, or an ICE restart.
    Patch(Patch),
    /// Answered at once: whether the thread is alive.
    Ping(oneshot::Sender<()>),
    /// Makes the session's peer panic at its next call, to test that other peers are not affected.
    #[cfg(debug_assertions)]
    Sink(SessionId),
}

/// The contents of a PATCH request.
pub struct Patch {
    /// The session to change.
    pub session: SessionId,
    /// `If-Match`; `*` matches any tag. Without one only candidates of the current ICE credentials are taken: some
    /// clients omit it then.
    pub tag: Option<String>,
    /// The remote ICE credentials: an ICE restart if they differ from the current ones.
    pub remote: Option<Credentials>,
    /// Additional remote candidates.
    pub remotes: Vec<Path>,
    /// Our candidates, for the answer to a restart.
    pub candidates: Vec<String>,
    /// Where the outcome goes.
    pub reply: oneshot::Sender<PatchOutcome>,
}

/// The outcome of a PATCH.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PatchOutcome {
    /// The candidates were added.
    Trickled,
    /// ICE was restarted.
    Restarted {
        /// SDP fragment with our new credentials.
        fragment: String,
        /// The session's new entity tag.
        etag: String,
    },
    /// The entity tag does not match the session's.
    WrongTag,
    /// An ICE restart requires a tag.
    MissingTag,
    /// The session no longer exists.
    Gone,
}

/// See the module.
pub struct Shard {
    number: usize,
    handle: ShardHandle,
    routes: Arc<Routes>,
    identity: Arc<Identity>,
    provider: Arc<dyn RTCCryptoProvider>,
    egress: Egress,
    peers: HashMap<u32, Box<Peer>>,
    next_peer: u32,
    by_path: HashMap<(SocketAddr, Via), u32>,
    by_ufrag: HashMap<String, u32>,
    early: EarlyHandshakes,
    by_session: HashMap<SessionId, u32>,
    streams: HashMap<u64, Watched>,
    empty: Ring,
    gso: GsoBatch,
    connecting: bool,
    ice: Shared,
    /// The peer that is being called; a panic is attributed to it.
    current: Option<u32>,
    panics: u64,
}

impl Shard {
    /// Shard `number` of `shards`, not running yet. `handle` sends to the inbox that it will run on.
    pub fn new(
        (number, shards): (usize, usize),
        handle: ShardHandle,
        routes: Arc<Routes>,
        identity: Arc<Identity>,
        provider: Arc<dyn RTCCryptoProvider>,
        egress: Egress,
    ) -> Self {
        Self {
            number,
            handle,
            routes,
            identity,
            provider,
            egress,
            peers: HashMap::new(),
            next_peer: 0,
            by_path: HashMap::new(),
            by_ufrag: HashMap::new(),
            early: EarlyHandshakes::default(),
            by_session: HashMap::new(),
            streams: HashMap::new(),
            empty: Ring::default(),
            gso: GsoBatch::default(),
            connecting: false,
            ice: Shared::new(shards, Box::new(rand::random)),
            current: None,
            panics: 0,
        }
    }

    /// Runs until all senders are gone or the engine stops.
    pub fn run(mut self, inbox: &Inbox, stop: &tokio_util::sync::CancellationToken) {
        let mut next_tick = Instant::now();
        let mut more = false;
        while !stop.is_cancelled() {
            let wait =
                if more { Duration::ZERO } else { next_tick.saturating_duration_since(Instant::now()) };
            if !inbox.wait(wait) {
                break;
            }
            more = self.take_burst(inbox);
            let now = Instant::now();
            if now >= next_tick {
                let interval = self.contained(|shard| shard.tick(now)).unwrap_or(FAST_TICK);
                next_tick = now + interval;
            } else {
                // A replay that has just begun must not wait for the next idle tick.
                let most = match (self.connecting, self.peers.is_empty()) {
                    (true, _) => FAST_TICK,
                    (false, false) => IDLE_TICK,
                    (false, true) => EMPTY_TICK,
                };
                next_tick = next_tick.min(now + most);
            }
        }
        let now = Instant::now();
        let all: Vec<u32> = self.peers.keys().copied().collect();
        for peer in all {
            self.contained(|shard| shard.remove(peer, now, "shutdown"));
        }
    }

    /// Handles all queued control messages and up to a burst from each other queue. `true` if there may be more.
    fn take_burst(&mut self, inbox: &Inbox) -> bool {
        for control in inbox.control.try_iter() {
            self.contained(|shard| shard.control(Instant::now(), control));
        }
        let mut count = 0;
        for (stream, batch) in inbox.media.try_iter().take(BURST) {
            count += 1;
            self.contained(|shard| shard.batch(Instant::now(), stream, &batch));
        }
        let mut more = count == BURST;
        for (queue, burst) in [(&inbox.datagrams, BURST), (&inbox.strangers, STRANGERS_BURST)] {
            let mut count = 0;
            for (path, data) in queue.try_iter().take(burst) {
                count += 1;
                self.contained(|shard| shard.datagram(Instant::now(), path, &data));
            }
            more |= count == burst;
        }
        more
    }

    /// Runs `work`; if it panics, only the peer that was being called is removed.
    fn contained<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.current = None;
        let panicked = match compartment::run(|| work(self)) {
            Ok(done) => return Some(done),
            Err(panicked) => panicked,
        };
        self.panics += 1;
        let peer = self.current.and_then(|key| self.peers.get(&key));
        let (session, panics) = (peer.map(|peer| peer.session), self.panics);
        error!(code = "internal", ?session, shard = self.number, panics, "contained a panic: {panicked}");
        if let Some(key) = self.current.take() {
            // Without close_notify, because closing might panic again.
            if let Err(panicked) = compartment::run(|| self.forget(key)) {
                error!(code = "internal", shard = self.number, "cannot remove the peer: {panicked}");
            }
        }
        None
    }

    fn control(&mut self, now: Instant, control: Control) {
        match control {
            Control::TcpOpened(id, sender) => self.egress.add_tcp(id, sender),
            Control::TcpClosed(id) => self.egress.remove_tcp(id),
            Control::Replay(stream, batch) => self.batch(now, stream, &batch),
            Control::Watch(new, handle) => self.watch(now, *new, handle),
            Control::Publish(new) => drop(self.add(now, *new)),
            Control::KeyFrame(session) => self.want_key_frame(session),
            Control::Remove(session) => {
                if let Some(&peer) = self.by_session.get(&session) {
                    self.remove(peer, now, "closed");
                }
            }
            Control::Layer(session, handle) => self.select_layer(now, session, handle),
            Control::EndStream(stream) => {
                self.give_up_waiting(stream);
                let peers = self.streams.get(&stream).map(|watched| watched.peers.clone());
                peers.into_iter().flatten().for_each(|peer| self.remove(peer, now, "stream ended"));
            }
            Control::Patch(patch) => self.patch(now, patch),
            Control::Ping(reply) => drop(reply.send(())),
            #[cfg(debug_assertions)]
            Control::Sink(session) => {
                let key = self.by_session.get(&session).copied();
                if let Some(peer) = key.and_then(|key| self.peers.get_mut(&key)) {
                    peer.sink();
                }
            }
        }
    }

    fn add(&mut self, now: Instant, new: NewPeer) -> Option<u32> {
        let session = new.session;
        self.next_peer = self.next_peer.wrapping_add(1);
        let key = self.next_peer;
        let mut tag = [0; 5];
        tag[0] = self.number as u8;
        tag[1..].copy_from_slice(&key.to_be_bytes());
        let peer = match Peer::new(new, now, tag, &self.identity, self.provider.clone()) {
            Ok(peer) => peer,
            Err(error) => {
                warn!(?session, "cannot create a peer: {error}");
                self.routes.remove_session(&session);
                return None;
            }
        };
        self.by_ufrag.insert(peer.ufrag.clone(), key);
        self.by_session.insert(session, key);
        self.peers.insert(key, Box::new(peer));
        self.connecting = true;
        Some(key)
    }

    fn want_key_frame(&mut self, session: SessionId) {
        let peer = self.by_session.get(&session).and_then(|key| self.peers.get_mut(key));
        if let Some(publisher) = peer.and_then(|peer| peer.publishes()) {
            publisher.want_key_frame();
        }
    }

    fn remove(&mut self, key: u32, now: Instant, why: &str) {
        self.current = Some(key);
        let Some(peer) = self.peers.get_mut(&key) else { return };
        debug!(session = ?peer.session, why, "peer removed");
        peer.close(now, &mut self.egress);
        self.forget(key);
    }

    /// Removes a peer and all references to it.
    fn forget(&mut self, key: u32) {
        let Some(peer) = self.peers.remove(&key) else { return };
        self.by_ufrag.remove(&peer.ufrag);
        self.by_session.remove(&peer.session);
        self.routes.remove_session(&peer.session);
        let (routes, egress) = (&self.routes, &mut self.egress);
        self.by_path.retain(|(address, via), owner| {
            let stays = *owner != key;
            match via {
                _ if stays => {}
                Via::Udp => routes.remove_address(address, peer.session),
                // The connection has no other purpose.
                Via::Tcp(id) => egress.remove_tcp(*id),
            }
            stays
        });
        if let Some(stream) = peer.watches() {
            self.leave(key, stream);
            self.stop_waiting(key);
        }
    }

    /// The peer a datagram belongs to: by the user name of a check, the transaction of a response, else the address.
    fn owner(&self, path: &Path, data: &[u8]) -> Option<u32> {
        if let Some(name) = stun::peek_username(data) {
            return self.by_ufrag.get(name.split(':').next()?).copied();
        }
        if let Some([_, a, b, c, d, ..]) = stun::peek_response(data) {
            return Some(u32::from_be_bytes([a, b, c, d]));
        }
        self.by_path.get(&(path.remote, path.via)).copied()
    }

    fn datagram(&mut self, now: Instant, path: Path, data: &[u8]) {
        let Some(key) = self.owner(&path, data) else { return self.early.keep(now, path, data) };
        let Some(peer) = self.peers.get_mut(&key) else { return };
        self.current = Some(key);
        let watched = peer.watches().and_then(|stream| self.streams.get(&stream));
        let ring = watched.map_or(&self.empty, |watched| &watched.ring);
        let effects = peer.input(now, path, data, ring, &mut self.egress, &mut self.ice);
        let session = peer.session;
        if let Some(evicted) = effects.evicted {
            self.disown(key, session, evicted);
        }
        if effects.proven {
            self.own(key, session, path);
        }
        if effects.authentic {
            self.egress.tcp_is_proven(path.via);
        }
        self.apply(key, now, &effects);
        if effects.proven {
            for data in self.early.take(now, &path) {
                self.datagram(now, path, &data);
            }
        }
    }

    /// Assigns a proven address to this peer, even if another peer had it. A peer can have one for each of its pairs,
    /// plus as many from before an ICE restart.
    fn own(&mut self, key: u32, session: SessionId, path: Path) {
        let place = (path.remote, path.via);
        if self.by_path.get(&place) == Some(&key) {
            return;
        }
        let others = self.by_path.values().filter(|owner| **owner == key);
        if others.count() < 2 * ice::MAX_PAIRS {
            self.by_path.insert(place, key);
            if path.via == Via::Udp {
                self.routes.add_address(path.remote, self.number, session);
            }
        }
    }

    fn disown(&mut self, key: u32, session: SessionId, path: Path) {
        let place = (path.remote, path.via);
        if self.by_path.get(&place) == Some(&key) {
            self.by_path.remove(&place);
            if path.via == Via::Udp {
                self.routes.remove_address(&path.remote, session);
            }
        }
    }

    fn apply(&mut self, key: u32, now: Instant, effects: &Effects) {
        if effects.gone {
            return self.remove(key, now, "gone");
        }
        self.current = Some(key);
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let Some(watched) = peer.watches().and_then(|stream| self.streams.get_mut(&stream)) else { return };
        let mut ask = effects.ask_source;
        if effects.connected && watched.primed {
            ask |= peer.join(&watched.ring, now);
            peer.send_video(now, &watched.ring, &mut self.egress, &mut self.gso);
        } else if peer.is_paced() {
            peer.send_video(now, &watched.ring, &mut self.egress, &mut self.gso);
        }
        if ask {
            watched.handle.try_send(Command::KeyFrame);
        }
    }

    fn patch(&mut self, now: Instant, patch: Patch) {
        let key = self.by_session.get(&patch.session).copied();
        let Some((key, peer)) = key.and_then(|key| Some((key, self.peers.get_mut(&key)?))) else {
            let _ = patch.reply.send(PatchOutcome::Gone);
            return;
        };
        let refused = match patch.tag.as_deref() {
            None if patch.remote.as_ref().is_some_and(|remote| remote != peer.remote()) => {
                Some(PatchOutcome::MissingTag)
            }
            Some(tag) if tag != "*" && tag != peer.etag => Some(PatchOutcome::WrongTag),
            _ => None,
        };
        if let Some(refused) = refused {
            let _ = patch.reply.send(refused);
            return;
        }
        let outcome = match patch.remote {
            Some(remote) if remote != *peer.remote() => {
                self.by_ufrag.remove(&peer.ufrag);
                let local = new_credentials(self.number);
                peer.restart(now, local.clone(), remote);
                self.by_ufrag.insert(local.ufrag.clone(), key);
                let fragment = restart_fragment(&local, &patch.candidates, &peer.mid);
                PatchOutcome::Restarted { fragment, etag: peer.etag.clone() }
            }
            _ => PatchOutcome::Trickled,
        };
        patch.remotes.into_iter().for_each(|path| peer.add_remote(now, path));
        self.connecting = true;
        let _ = patch.reply.send(outcome);
    }

    fn tick(&mut self, now: Instant) -> Duration {
        let (mut paced, mut busy) = (false, false);
        let none = Clocks::default();
        let keys: Vec<u32> = self.peers.keys().copied().collect();
        for key in keys {
            let Some(peer) = self.peers.get_mut(&key) else { continue };
            self.current = Some(key);
            let watched = peer.watches().and_then(|stream| self.streams.get(&stream));
            let clocks = watched.map_or(&none, |watched| &watched.clocks);
            let effects = peer.poll(now, clocks, &mut self.egress, &mut self.ice);
            if let Some(watched) = watched.filter(|_| peer.is_paced()) {
                peer.send_video(now, &watched.ring, &mut self.egress, &mut self.gso);
            }
            paced |= peer.is_paced();
            busy |= !peer.is_connected() || peer.publishes().is_some();
            self.apply(key, now, &effects);
        }
        self.connecting = busy || paced;
        match (paced, busy) {
            (true, _) => FAST_TICK,
            (false, true) => BUSY_TICK,
            (false, false) if self.peers.is_empty() => EMPTY_TICK,
            (false, false) => IDLE_TICK,
        }
    }
}
