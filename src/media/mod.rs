//! The media engine: WebRTC peers that watch streams and peers that publish them. Apart from `streams::whep`, the
//! only folder that uses `rtc`. A few shard threads own the peers; one UDP socket serves all of them; TCP connections
//! to the HTTP port that turn out to be ICE are handed over to it. Start at [`Engine::watch`] for viewers, at
//! [`Engine::publish`] for publishers, and at [`shard`] for packet handling.

mod early;
mod inbox;
#[cfg(test)]
mod lossy_tests;
pub mod peer;
pub mod publish;
pub mod session;
pub mod shard;
pub mod subscribe;
pub mod transport;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::compartment;
use crate::ids::SessionId;
use crate::names::StreamName;
use crate::streams::StreamHandle;
use crate::streams::packet::AudioCodec;
use crate::streams::published::{self, KeyFrames};
use crate::streams::source::SourceError;
use crate::streams::status::{Reason, State, StreamStatus};
use inbox::ShardHandle;
use peer::{Media, NewPeer};
use publish::publisher::Publisher;
use session::answer;
use session::answer::{AnswerTrack, Local};
use session::candidates::{Candidates, PublicHost, parse_remote};
use session::negotiate::{self, Agreement, OfferError, Tracks};
use session::sdp::Sdp;
use shard::{Control, Patch, PatchOutcome, Shard};
use subscribe::cursor::Replays;
use subscribe::subscriber::Subscriber;
use transport::dtls::Identity;
use transport::path::{ConnectionId, Path, Via};
use transport::routes::{Routes, new_credentials};
use transport::socket::{Egress, MediaSocket, ReceiveBuffers};
use transport::{routes, stun, tcp};

/// How long a viewer waits for a source that must be started first.
const START_LIMIT: Duration = Duration::from_secs(12);
/// …and for a publisher that is not connected yet.
const PUBLISHER_LIMIT: Duration = Duration::from_secs(5);
/// …and for a camera that cannot be reached: it may just be restarting.
const RETURN_LIMIT: Duration = Duration::from_secs(5);
/// When a viewer that was refused should ask again.
const SOON: Duration = Duration::from_millis(700);
/// A viewer waits for the next attempt to connect to the source if it is made within this time.
const PATIENCE: Duration = Duration::from_millis(1200);
/// How often our own addresses are looked up.
const REFRESH_INTERVAL: Duration = Duration::from_secs(30);
/// Remote candidates accepted from one message.
const MAX_REMOTES: usize = 8;

/// Engine configuration.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Number of shard threads.
    pub shards: usize,
    /// Maximum number of concurrent sessions across all streams, publishers included.
    pub max_viewers: usize,
    /// Addresses and host names to offer in addition to those of the interfaces.
    pub public_hosts: Vec<PublicHost>,
    /// The port of public hosts that name none, if it is not that of the sockets.
    pub advertise_port: Option<u16>,
    /// The address on which ICE over TCP is accepted.
    pub tcp: SocketAddr,
    /// Drop the datagrams of other machines.
    pub only_this_host: bool,
}

/// Why a viewer or publisher cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The offer cannot be answered.
    #[error(transparent)]
    Offer(#[from] OfferError),
    /// The source is not available; retrying after this time may help.
    #[error("{}", .0.message)]
    NotReachable(Reason, Duration),
    /// The stream is available, but no browser can play it.
    #[error("{}", .0.message)]
    NotPlayable(Reason),
    /// The session limit is reached.
    #[error("the limit of {0} sessions is reached")]
    Full(usize),
    /// A shard has ended: a bug.
    #[error("the media engine does not respond")]
    Engine,
}

/// A session that was started.
#[derive(Debug)]
pub struct Begun {
    /// The SDP answer.
    pub answer: String,
    /// The session's id.
    pub session: SessionId,
    /// Its entity tag (ETag).
    pub etag: String,
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    shards: Vec<ShardHandle>,
    routes: Arc<Routes>,
    identity: Arc<Identity>,
    candidates: Candidates,
    next_shard: AtomicUsize,
    next_connection: AtomicU64,
    max_viewers: usize,
    only_this_host: bool,
    stop: CancellationToken,
}

impl Engine {
    /// Starts the threads on a bound socket. The ids of ended sessions are sent to `endings`.
    ///
    /// # Errors
    /// A thread cannot be spawned, the certificate cannot be generated, or the socket has no local address.
    pub fn start(
        socket: MediaSocket,
        config: &EngineConfig,
        endings: UnboundedSender<SessionId>,
        stop: CancellationToken,
    ) -> io::Result<Self> {
        let provider = rtc::crypto::default_provider().map_err(io::Error::other)?;
        let identity = Arc::new(Identity::generate(&*provider).map_err(io::Error::other)?);
        let routes = Arc::new(Routes::new(endings));
        let listen = socket.local_addr()?;
        let socket = Arc::new(socket);
        let mut shards = Vec::new();
        let count = config.shards.clamp(1, routes::MAX_SHARDS);
        for number in 0..count {
            let (handle, inbox) = inbox::queues();
            let egress = Egress::new(socket.clone());
            let (routes, identity) = (routes.clone(), identity.clone());
            let shard =
                Shard::new((number, count), handle.clone(), routes, identity, provider.clone(), egress);
            let stop = stop.clone();
            std::thread::Builder::new()
                .name(format!("media-{number}"))
                .spawn(move || shard.run(&inbox, &stop))?;
            shards.push(handle);
        }
        let inner = Arc::new(Inner {
            shards,
            routes,
            identity,
            candidates: Candidates::new(
                listen,
                config.tcp,
                config.public_hosts.clone(),
                config.advertise_port,
            ),
            next_shard: AtomicUsize::new(0),
            next_connection: AtomicU64::new(1),
            max_viewers: config.max_viewers,
            only_this_host: config.only_this_host,
            stop,
        });
        tokio::spawn(receive(socket, inner.clone()));
        tokio::spawn(refresh(inner.clone()));
        tokio::spawn(wake_at_stop(inner.clone()));
        Ok(Self { inner })
    }

    /// Looks up our addresses, for callers that cannot wait for the first periodic refresh.
    pub async fn refresh_addresses(&self) {
        self.inner.candidates.refresh().await;
    }

    /// Our own addresses.
    pub fn addresses(&self) -> Arc<Vec<std::net::IpAddr>> {
        self.inner.candidates.addresses()
    }

    /// The maximum number of sessions.
    pub fn max_viewers(&self) -> usize {
        self.inner.max_viewers
    }

    /// The current number of sessions.
    pub fn sessions(&self) -> usize {
        self.inner.routes.sessions()
    }

    /// Adds a viewer: starts the source if necessary, answers the offer, and hands the new peer to a shard. `sound` is
    /// the codec of another layer's sound, for a stream without.
    ///
    /// # Errors
    /// See [`WatchError`].
    pub async fn watch(
        &self,
        stream: &StreamHandle,
        sound: Option<AudioCodec>,
        offer: &str,
        client: IpAddr,
    ) -> Result<Begun, WatchError> {
        // An offer that no stream could satisfy is rejected before a camera is started.
        if stream.is_published() {
            negotiate::check(offer)?;
        } else {
            negotiate::check_for_camera(offer)?;
        }
        self.has_room()?;
        let interest = stream.want().await;
        let limit = if stream.is_published() { PUBLISHER_LIMIT } else { START_LIMIT };
        let status = watchable(stream, limit).await?;
        if stream.has_ended() {
            return Err(removed());
        }
        let tracks = tracks_of(&status, sound);
        let agreement = negotiate::watch(offer, &tracks, rand::random())?;
        let replays = if stream.answers_key_frames() {
            let repeatable = tracks.video.as_ref().is_some_and(|(codec, _)| codec.is_replayable());
            Replays::of_answering(repeatable)
        } else {
            Replays::CAMERA
        };
        let (video, audio) = (agreement.video.clone(), agreement.audio.clone().zip(tracks.audio));
        let subscriber = Subscriber::new(stream.number(), video, audio, replays, Instant::now());
        let media = Media::Subscriber(Box::new(subscriber));
        let handle = stream.clone();
        let session = SessionId::random();
        let name = stream.id();
        let begun =
            self.begin(&agreement, session, name, media, client, |new| Control::Watch(new, handle))?;
        // From here on the shard's subscription keeps the source running; the source idles for seconds before it
        // stops, which covers the time until the shard subscribes.
        drop(interest);
        Ok(begun)
    }

    /// Adds a publisher: answers the offer and replaces the stream's current publisher, if any.
    ///
    /// # Errors
    /// See [`WatchError`].
    pub async fn publish(
        &self,
        stream: &StreamHandle,
        offer: &str,
        client: IpAddr,
    ) -> Result<Begun, WatchError> {
        let publishing = negotiate::publish(offer)?;
        self.has_room()?;
        let session = SessionId::random();
        let key_frames = Arc::new(Requests { session, engine: Arc::downgrade(&self.inner) });
        let (feed, source) =
            published::PublishedConnection::new(publishing.video, publishing.audio, key_frames);
        let agreement = publishing.agreement;
        let (video, audio) = (agreement.video.clone(), agreement.audio.clone());
        let publisher = Publisher::new(video, audio, feed, Instant::now(), rand::random());
        let media = Media::Publisher(Box::new(publisher));
        let begun = self.begin(&agreement, session, stream.id(), media, client, Control::Publish)?;
        if !stream.attach(source).await {
            self.close(session);
            let error = SourceError::soon("stream_ended", "the stream has just ended");
            return Err(WatchError::NotReachable(error.reason(), SOON));
        }
        Ok(begun)
    }

    fn has_room(&self) -> Result<(), WatchError> {
        let room = self.inner.routes.sessions() < self.inner.max_viewers;
        if room { Ok(()) } else { Err(WatchError::Full(self.inner.max_viewers)) }
    }

    /// Writes the answer for an agreement and hands the new peer to a shard.
    fn begin<T: AnswerTrack>(
        &self,
        agreement: &Agreement<T>,
        session: SessionId,
        stream: &StreamName,
        media: Media,
        client: IpAddr,
        control: impl FnOnce(Box<NewPeer>) -> Control,
    ) -> Result<Begun, WatchError> {
        let inner = &self.inner;
        let number = inner.next_shard.fetch_add(1, Ordering::Relaxed) % inner.shards.len();
        let local = new_credentials(number);
        let candidates = inner.candidates.lines(client.is_loopback());
        if candidates.is_empty() {
            warn!(
                code = "media_address",
                %client,
                "there is no address for media that this client can reach: set [media] listen or public_hosts"
            );
        }
        let (fingerprint, stream) = (inner.identity.fingerprint(), msid(stream));
        let ours = Local { ice: &local, fingerprint, candidates: &candidates, stream: &stream };
        let answer = answer::answer(agreement, &ours, rand::random::<u64>() >> 2);
        let remotes = remote_paths(&agreement.candidates, client);
        let new = NewPeer::new(agreement, session, media, local, remotes);
        let etag = new.etag.clone();
        if !inner.routes.add_session(session, number, inner.max_viewers) {
            return Err(WatchError::Full(inner.max_viewers));
        }
        if !inner.shards[number].control(control(Box::new(new))) {
            inner.routes.remove_session(&session);
            return Err(WatchError::Engine);
        }
        Ok(Begun { answer, session, etag })
    }

    /// Whether a session exists.
    pub fn has_session(&self, session: &SessionId) -> bool {
        self.inner.routes.by_session(session).is_some()
    }

    /// Applies an SDP fragment with more candidates or an ICE restart.
    ///
    /// # Errors
    /// The fragment cannot be parsed, or the shard does not respond.
    pub async fn patch(
        &self,
        session: SessionId,
        tag: Option<&str>,
        fragment: &str,
        client: IpAddr,
    ) -> Result<PatchOutcome, WatchError> {
        let fragment = Sdp::parse_fragment(fragment).map_err(OfferError::from)?;
        let remotes = remote_paths(&negotiate::candidates(&fragment), client);
        let remote = match fragment.anywhere("ice-ufrag") {
            Some(_) => Some(negotiate::remote_credentials(&fragment)?),
            None => None,
        };
        let (reply, outcome) = oneshot::channel();
        let candidates = self.inner.candidates.lines(client.is_loopback());
        let patch = Patch { session, tag: tag.map(str::to_owned), remote, remotes, candidates, reply };
        let Some(shard) = self.shard_of(&session) else { return Ok(PatchOutcome::Gone) };
        if !shard.control(Control::Patch(patch)) {
            return Err(WatchError::Engine);
        }
        // A missing reply means that the shard dropped the request, not that the session is gone.
        outcome.await.map_err(|_| WatchError::Engine)
    }

    /// A viewer wants this layer of its stream, and gets it as soon as it has a key frame; `false` if there is no such
    /// session.
    pub fn select_layer(&self, session: SessionId, layer: StreamHandle) -> bool {
        self.shard_of(&session).is_some_and(|shard| shard.control(Control::Layer(session, layer)))
    }

    /// Ends a session; `false` if it does not exist.
    pub fn close(&self, session: SessionId) -> bool {
        self.shard_of(&session).is_some_and(|shard| shard.control(Control::Remove(session)))
    }

    /// Disconnects the viewers of a stream that has ended.
    pub fn end_stream(&self, number: u64) {
        for shard in &self.inner.shards {
            shard.control(Control::EndStream(number));
        }
    }

    /// Makes the session's peer panic at its next call, to test that other peers are not affected.
    #[cfg(debug_assertions)]
    pub fn sink(&self, session: SessionId) {
        if let Some(shard) = self.shard_of(&session) {
            shard.control(Control::Sink(session));
        }
    }

    /// Whether every shard answers. Waits for as long as one is busy.
    pub async fn answers(&self) -> bool {
        let pings = self.inner.shards.iter().map(|shard| {
            let (reply, answer) = oneshot::channel();
            let sent = shard.control(Control::Ping(reply));
            async move { sent && answer.await.is_ok() }
        });
        futures::future::join_all(pings).await.into_iter().all(|answered| answered)
    }

    /// The number of proven peer addresses.
    pub fn known_addresses(&self) -> usize {
        self.inner.routes.addresses()
    }

    /// Datagrams that were dropped because a shard was overloaded, since the start.
    pub fn dropped_datagrams(&self) -> u64 {
        self.inner.shards.iter().map(ShardHandle::dropped).sum()
    }

    fn shard_of(&self, session: &SessionId) -> Option<&ShardHandle> {
        self.inner.routes.by_session(session).and_then(|shard| self.inner.shards.get(shard))
    }

    /// Serves a TCP connection whose first bytes are an ICE check, until it ends. `on_proof` is called once an
    /// authentic check shows that it belongs to one of our sessions; otherwise it is closed after five seconds.
    pub async fn serve_tcp(&self, connection: TcpStream, on_proof: impl FnOnce() + Send) {
        let id = ConnectionId(self.inner.next_connection.fetch_add(1, Ordering::Relaxed));
        tcp::serve(connection, id, &self.inner.shards, on_proof).await;
    }
}

/// Requests key frames from a publisher.
struct Requests {
    session: SessionId,
    engine: std::sync::Weak<Inner>,
}

impl KeyFrames for Requests {
    fn request(&self) {
        let Some(inner) = self.engine.upgrade() else { return };
        let shard = inner.routes.by_session(&self.session).and_then(|shard| inner.shards.get(shard));
        if let Some(shard) = shard {
            shard.control(Control::KeyFrame(self.session));
        }
    }
}

async fn watchable(stream: &StreamHandle, limit: Duration) -> Result<Arc<StreamStatus>, WatchError> {
    let mut changes = stream.watch_status();
    let begun = tokio::time::Instant::now();
    loop {
        let status = changes.borrow_and_update().clone();
        if status.is_watchable() {
            return Ok(status);
        }
        if let (State::Live, Some(problem)) = (status.state, &status.problem) {
            return Err(WatchError::NotPlayable(problem.clone()));
        }
        let fails = matches!(status.state, State::Failed | State::Retrying);
        let until_retry = status.retry_at.and_then(|at| at.duration_since(SystemTime::now()).ok());
        if let (true, Some(reason), Some(wait)) =
            (fails, &status.reason, until_retry.filter(|wait| *wait > PATIENCE))
        {
            return Err(match reason.code {
                "camera_codec" => WatchError::NotPlayable(reason.clone()),
                _ => WatchError::NotReachable(reason.clone(), wait),
            });
        }
        let limit = if fails { limit.min(RETURN_LIMIT) } else { limit };
        match tokio::time::timeout_at(begun + limit, changes.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(removed()),
            Err(_) => {
                let slow = SourceError::soon("camera_timeout", "the camera did not start in time").reason();
                return Err(WatchError::NotReachable(status.reason.clone().unwrap_or(slow), SOON));
            }
        }
    }
}

/// The camera's settings changed while a viewer was waiting for it: a retry finds the new generation of the stream.
fn removed() -> WatchError {
    let error = SourceError::soon("camera_removed", "the camera was removed or changed");
    WatchError::NotReachable(error.reason(), SOON)
}

fn tracks_of(status: &StreamStatus, sound: Option<AudioCodec>) -> Tracks {
    let video = status.video.as_ref().map(|video| {
        let profile = video.info.as_ref().map(|info| info.profile_level_id.clone());
        (video.codec, profile.unwrap_or_else(|| "42e01f".into()))
    });
    Tracks { video, audio: status.audio.as_ref().and_then(|audio| audio.passed).or(sound) }
}

/// The stream's name without the slash, which is not allowed in an SDP token.
fn msid(stream: &StreamName) -> String {
    stream.to_string().replace('/', "-")
}

fn remote_paths(candidates: &[String], client: IpAddr) -> Vec<Path> {
    let addresses =
        candidates.iter().filter_map(|candidate| parse_remote(candidate, client)).take(MAX_REMOTES);
    addresses.map(|remote| Path { remote, via: Via::Udp, local: None }).collect()
}

async fn refresh(inner: Arc<Inner>) {
    loop {
        tokio::select! {
            () = inner.stop.cancelled() => return,
            () = inner.candidates.refresh() => {}
        }
        tokio::select! {
            () = inner.stop.cancelled() => return,
            () = tokio::time::sleep(REFRESH_INTERVAL) => {}
        }
    }
}

/// Wakes the shards when the engine stops: those without peers wait for long.
async fn wake_at_stop(inner: Arc<Inner>) {
    inner.stop.cancelled().await;
    for shard in &inner.shards {
        let (reply, _) = oneshot::channel();
        shard.control(Control::Ping(reply));
    }
}

async fn receive(socket: Arc<MediaSocket>, inner: Arc<Inner>) {
    let mut buffers = ReceiveBuffers::default();
    loop {
        let received = tokio::select! {
            () = inner.stop.cancelled() => return,
            received = socket.receive(&mut buffers, |path, data| inner.dispatch(&socket, path, data)) => received,
        };
        if let Err(error) = received {
            // Linux reports ICMP errors for earlier datagrams here: the socket remains usable.
            warn!("receiving on the media socket failed: {error}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Inner {
    /// Passes a datagram on to its shard. Plain STUN requests are answered directly.
    fn dispatch(&self, socket: &MediaSocket, path: Path, data: &[u8]) {
        if self.only_this_host && !self.candidates.is_own(path.remote.ip()) {
            return;
        }
        let by_address = self.routes.by_address(&path.remote);
        let named = match data.first() {
            Some(0) => match stun::peek_username(data) {
                Some(name) => routes::shard_of(name),
                None => return answer_plain(socket, path, data),
            },
            // The response to one of our checks, possibly from an address not proven yet: see `ice::Tag`.
            Some(1) => stun::peek_response(data).map(|transaction| usize::from(transaction[0])),
            _ => None,
        };
        let Some(number) = named.or(by_address) else { return self.dispatch_early(path, data) };
        let Some(shard) = self.shards.get(number) else { return };
        if !shard.datagram(path, data.to_vec(), by_address == Some(number)) && !self.stop.is_cancelled() {
            error!(shard = number, "a media thread has ended");
        }
    }

    /// A handshake datagram of an address that is not proven yet may be any shard's.
    fn dispatch_early(&self, path: Path, data: &[u8]) {
        if early::is_handshake(data) {
            for shard in &self.shards {
                shard.datagram(path, data.to_vec(), false);
            }
        }
    }
}

fn answer_plain(socket: &MediaSocket, path: Path, data: &[u8]) {
    // Unauthenticated input parsed by rtc: a panic must not end the receive task, which all peers share.
    let parsed = compartment::run(|| stun::Incoming::parse(data));
    let Ok(Some(message)) = parsed else { return };
    if message.kind() != stun::Kind::Request {
        return;
    }
    let mapped: SocketAddr = path.canonical_remote();
    if let Some(answer) = stun::plain_answer(message.transaction(), mapped) {
        let _ = socket.send(path.remote, path.local, &answer, answer.len());
    }
}
