//! One thread of the media engine. It owns its peers and its copies of their streams outright; everybody else
//! sends it messages. No lock is taken on the way of a packet. Start at [`Shard::run`].

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use rtc::crypto::RTCCryptoProvider;
use tokio::sync::oneshot;
use tracing::{debug, warn};

use crate::ids::SessionId;
use crate::media::peer::{Effects, NewPeer, Peer};
use crate::media::session::answer::restart_fragment;
use crate::media::subscribe::ring::Ring;
use crate::media::subscribe::subscriber::GsoBatch;
use crate::media::transport::dtls::Identity;
use crate::media::transport::ice::Credentials;
use crate::media::transport::path::{ConnectionId, Path, Via};
use crate::media::transport::routes::{Routes, new_credentials};
use crate::media::transport::socket::{Egress, TcpSender};
use crate::media::transport::stun;
use crate::streams::StreamHandle;
use crate::streams::hub::{Sink, SinkId};
use crate::streams::packet::{Clocks, SharedBatch, Track};
use crate::streams::stream::Command;

/// Messages that wait for a shard.
pub const QUEUE: usize = 8192;
/// Messages that are taken before the time is looked at.
const BURST: usize = 256;
/// How often time passes: for a replay, while somebody connects or publishes, and otherwise.
const FAST_TICK: Duration = Duration::from_millis(5);
const BUSY_TICK: Duration = Duration::from_millis(20);
const IDLE_TICK: Duration = Duration::from_millis(100);

/// A message to a shard.
pub enum Input {
    /// A datagram for one of its peers.
    Datagram(Path, Vec<u8>),
    /// A TCP connection that speaks ICE.
    TcpOpened(ConnectionId, TcpSender),
    /// It is gone.
    TcpClosed(ConnectionId),
    /// Packets of a stream, by the number of its gso.
    Batch(u64, SharedBatch),
    /// A new viewer of a stream.
    Watch(Box<NewPeer>, StreamHandle),
    /// A new publisher.
    Publish(Box<NewPeer>),
    /// A publisher is to send a key frame.
    KeyFrame(SessionId),
    /// A viewer or publisher leaves.
    Remove(SessionId),
    /// A stream has ended: its viewers with it.
    EndStream(u64),
    /// More candidates, or an ICE restart.
    Patch(Patch),
}

/// What a PATCH asks for.
pub struct Patch {
    /// Whose session.
    pub session: SessionId,
    /// `If-Match`; `*` matches all.
    pub tag: String,
    /// New credentials: an ICE restart if they are not those that are known.
    pub remote: Option<Credentials>,
    /// More addresses.
    pub remotes: Vec<Path>,
    /// Ours, for the answer to a restart.
    pub candidates: Vec<String>,
    /// Where the outcome goes.
    pub reply: oneshot::Sender<PatchOutcome>,
}

/// What became of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PatchOutcome {
    /// The candidates are taken.
    Trickled,
    /// ICE was restarted.
    Restarted {
        /// SDP fragment with our new credentials.
        fragment: String,
        /// The session's new entity tag.
        etag: String,
    },
    /// The entity tag is not the session's.
    WrongTag,
    /// There is no such session any more.
    Gone,
}

/// Hands a stream's batches to a shard.
struct ShardSink {
    stream: u64,
    shard: SyncSender<Input>,
}

impl Sink for ShardSink {
    fn deliver(&self, batch: &SharedBatch) -> bool {
        self.shard.try_send(Input::Batch(self.stream, batch.clone())).is_ok()
    }

    fn end(&self) {
        let _ = self.shard.try_send(Input::EndStream(self.stream));
    }
}

/// A stream as a shard sees it.
struct Watched {
    handle: StreamHandle,
    sink: SinkId,
    ring: Ring,
    clocks: Clocks,
    peers: Vec<u32>,
    /// Viewers who wait for the replay that a new subscription begins with.
    primed: bool,
}

/// See the module.
pub struct Shard {
    number: usize,
    sender: SyncSender<Input>,
    routes: Arc<Routes>,
    identity: Arc<Identity>,
    provider: Arc<dyn RTCCryptoProvider>,
    egress: Egress,
    peers: HashMap<u32, Box<Peer>>,
    next_peer: u32,
    by_path: HashMap<(SocketAddr, Via), u32>,
    by_ufrag: HashMap<String, u32>,
    by_session: HashMap<SessionId, u32>,
    streams: HashMap<u64, Watched>,
    empty: Ring,
    gso: GsoBatch,
    connecting: bool,
}

impl Shard {
    /// A shard that is yet to gso. `sender` leads to the receiver that it will run on.
    pub fn new(
        number: usize,
        sender: SyncSender<Input>,
        routes: Arc<Routes>,
        identity: Arc<Identity>,
        provider: Arc<dyn RTCCryptoProvider>,
        egress: Egress,
    ) -> Self {
        Self {
            number,
            sender,
            routes,
            identity,
            provider,
            egress,
            peers: HashMap::new(),
            next_peer: 0,
            by_path: HashMap::new(),
            by_ufrag: HashMap::new(),
            by_session: HashMap::new(),
            streams: HashMap::new(),
            empty: Ring::default(),
            gso: GsoBatch::default(),
            connecting: false,
        }
    }

    /// Runs until nobody can send to it any more, or the engine stops.
    pub fn run(mut self, inputs: &Receiver<Input>, stop: &tokio_util::sync::CancellationToken) {
        let mut next_tick = Instant::now();
        while !stop.is_cancelled() {
            let wait = next_tick.saturating_duration_since(Instant::now());
            match inputs.recv_timeout(wait) {
                Ok(input) => {
                    self.input(input);
                    for input in inputs.try_iter().take(BURST) {
                        self.input(input);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            let now = Instant::now();
            if now >= next_tick {
                let interval = self.tick(now);
                next_tick = now + interval;
            } else {
                // A replay that has just begun must not wait for the next idle tick.
                next_tick = next_tick.min(now + if self.connecting { FAST_TICK } else { IDLE_TICK });
            }
        }
        let now = Instant::now();
        let all: Vec<u32> = self.peers.keys().copied().collect();
        all.into_iter().for_each(|peer| self.remove(peer, now, "shutdown"));
    }

    fn input(&mut self, input: Input) {
        let now = Instant::now();
        match input {
            Input::Batch(stream, batch) => self.batch(now, stream, &batch),
            Input::Datagram(path, data) => self.datagram(now, path, &data),
            Input::TcpOpened(id, sender) => self.egress.add_tcp(id, sender),
            Input::TcpClosed(id) => self.egress.remove_tcp(id),
            Input::Watch(new, handle) => self.watch(now, *new, handle),
            Input::Publish(new) => drop(self.add(now, *new)),
            Input::KeyFrame(session) => self.want_key_frame(session),
            Input::Remove(session) => {
                if let Some(&peer) = self.by_session.get(&session) {
                    self.remove(peer, now, "closed");
                }
            }
            Input::EndStream(stream) => {
                let peers = self.streams.get(&stream).map(|watched| watched.peers.clone());
                peers.into_iter().flatten().for_each(|peer| self.remove(peer, now, "stream ended"));
            }
            Input::Patch(patch) => self.patch(now, patch),
        }
    }

    fn add(&mut self, now: Instant, new: NewPeer) -> Option<u32> {
        let session = new.session;
        let peer = match Peer::new(new, now, &self.identity, self.provider.clone()) {
            Ok(peer) => peer,
            Err(error) => {
                warn!(?session, "peer cannot be made: {error}");
                self.routes.remove_session(&session);
                return None;
            }
        };
        self.next_peer = self.next_peer.wrapping_add(1);
        let key = self.next_peer;
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

    fn watch(&mut self, now: Instant, new: NewPeer, handle: StreamHandle) {
        let stream = handle.number();
        let Some(key) = self.add(now, new) else { return };
        let watched = self.streams.entry(stream).or_insert_with(|| {
            let sink = SinkId(self.number as u64);
            let batches = Arc::new(ShardSink { stream, shard: self.sender.clone() });
            handle.send_blocking(Command::Subscribe(sink, batches));
            let (ring, clocks) = (Ring::default(), Clocks::default());
            Watched { handle, sink, ring, clocks, peers: Vec::new(), primed: false }
        });
        watched.peers.push(key);
        watched.handle.send_blocking(Command::Viewers(watched.sink, watched.peers.len()));
    }

    fn remove(&mut self, key: u32, now: Instant, why: &str) {
        let Some(mut peer) = self.peers.remove(&key) else { return };
        debug!(session = ?peer.session, why, "peer removed");
        peer.close(now, &mut self.egress);
        self.by_ufrag.remove(&peer.ufrag);
        self.by_session.remove(&peer.session);
        self.routes.remove_session(&peer.session);
        let routes = &self.routes;
        self.by_path.retain(|(address, via), owner| {
            let stays = *owner != key;
            if !stays && *via == Via::Udp {
                routes.remove_address(address);
            }
            stays
        });
        let Some(stream) = peer.watches() else { return };
        let Some(watched) = self.streams.get_mut(&stream) else { return };
        watched.peers.retain(|other| *other != key);
        if watched.peers.is_empty() {
            watched.handle.send_blocking(Command::Unsubscribe(watched.sink));
            self.streams.remove(&stream);
        } else {
            watched.handle.send_blocking(Command::Viewers(watched.sink, watched.peers.len()));
        }
    }

    fn datagram(&mut self, now: Instant, path: Path, data: &[u8]) {
        let by_name = stun::peek_username(data).and_then(|name| name.split(':').next());
        let key = match by_name {
            Some(ufrag) => self.by_ufrag.get(ufrag).copied(),
            None => self.by_path.get(&(path.remote, path.via)).copied(),
        };
        let Some((key, peer)) = key.and_then(|key| Some((key, self.peers.get_mut(&key)?))) else { return };
        let watched = peer.watches().and_then(|stream| self.streams.get(&stream));
        let ring = watched.map_or(&self.empty, |watched| &watched.ring);
        let effects = peer.input(now, path, data, ring, &mut self.egress);
        if effects.authentic
            && self.by_path.insert((path.remote, path.via), key) != Some(key)
            && path.via == Via::Udp
        {
            self.routes.add_address(path.remote, self.number);
        }
        self.apply(key, now, &effects);
    }

    fn apply(&mut self, key: u32, now: Instant, effects: &Effects) {
        if effects.gone {
            return self.remove(key, now, "gone");
        }
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

    fn batch(&mut self, now: Instant, stream: u64, batch: &SharedBatch) {
        let Some(watched) = self.streams.get_mut(&stream) else { return };
        watched.clocks = batch.clocks;
        if !batch.replay {
            watched.ring.touch(now);
        }
        for packet in batch.packets.iter().filter(|packet| packet.track == Track::Video) {
            watched.ring.push(packet.clone());
        }
        if batch.replay && !watched.primed {
            watched.primed = true;
            // Whoever connected before the replay came joins now.
            for key in &watched.peers {
                if let Some(peer) = self.peers.get_mut(key).filter(|peer| peer.is_connected())
                    && peer.join(&watched.ring, now)
                {
                    watched.handle.try_send(Command::KeyFrame);
                }
            }
        }
        for key in &watched.peers {
            let Some(peer) = self.peers.get_mut(key).filter(|peer| peer.is_connected()) else { continue };
            peer.send_video(now, &watched.ring, &mut self.egress, &mut self.gso);
            for packet in batch.packets.iter().filter(|packet| packet.track == Track::Audio) {
                peer.send_audio(packet, &mut self.egress, &mut self.gso);
            }
        }
    }

    fn patch(&mut self, now: Instant, patch: Patch) {
        let key = self.by_session.get(&patch.session).copied();
        let Some((key, peer)) = key.and_then(|key| Some((key, self.peers.get_mut(&key)?))) else {
            let _ = patch.reply.send(PatchOutcome::Gone);
            return;
        };
        if patch.tag != "*" && patch.tag != peer.etag {
            let _ = patch.reply.send(PatchOutcome::WrongTag);
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
            let watched = peer.watches().and_then(|stream| self.streams.get(&stream));
            let clocks = watched.map_or(&none, |watched| &watched.clocks);
            let effects = peer.poll(now, clocks, &mut self.egress);
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
            (false, false) => IDLE_TICK,
        }
    }
}
