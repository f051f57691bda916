//! Streams: sources and their distribution. The packets of a source (a camera, another WHEP server, a publisher) are
//! normalized once and fanned out to sinks; [`Streams`] is the only entry point. Nothing here knows about peers, SDP
//! or HTTP.
//!
//! `stream` is the task that owns one stream, `live` one connection of its source, `interest` tracks whether the source
//! is needed, `layer` is about main and sub streams; `hub` fans out, `frames` and `h264` normalize, `rtsp`, `whep` and `published` are the sources,
//! `connection` is any one of them.

pub mod backoff;
pub mod cache_budget;
mod check;
pub mod connection;
pub mod frames;
mod front;
pub mod h264;
pub mod hub;
pub mod interest;
pub mod layer;
mod live;
pub mod meter;
pub mod outage;
pub mod pace;
pub mod packet;
pub mod published;
pub mod rtsp;
pub mod source;
pub mod spec;
pub mod status;
pub mod stream;
pub mod whep;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::names::StreamName;
use cache_budget::CacheBudget;
use interest::Interest;
use layer::Layer;
use source::SourceSpec;
use spec::StreamSpec;
use status::StreamStatus;
use stream::{Command, Task};

/// Capacity of the command queue of a stream's task.
const COMMANDS: usize = 256;

/// One generation of a stream, for whoever wants to watch it. Cheap to clone. It ends when it is removed from
/// [`Streams`], or replaced there by one with other settings.
#[derive(Clone)]
pub struct StreamHandle {
    id: StreamName,
    number: u64,
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<Arc<StreamStatus>>,
    interest: Arc<Interest>,
    answers_key_frames: bool,
    is_published: bool,
    ended: CancellationToken,
    sub: Option<Arc<StreamHandle>>,
}

impl StreamHandle {
    /// Its name.
    pub fn id(&self) -> &StreamName {
        &self.id
    }

    /// Tells this generation of the stream from an earlier one of the same name.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// One of its layers, if it has that one. Of a sub stream's own handle there is no other.
    pub fn layer(&self, layer: Layer) -> Option<Self> {
        match layer {
            Layer::Main => Some(self.clone()),
            Layer::Sub => self.sub.as_deref().cloned(),
        }
    }

    /// The current status of all layers together.
    pub fn combined_status(&self) -> StreamStatus {
        match &self.sub {
            Some(sub) => layer::combined(&self.status(), &sub.status()),
            None => StreamStatus::clone(&self.status()),
        }
    }

    /// The numbers of all its layers.
    fn numbers(&self) -> impl Iterator<Item = u64> {
        [Some(self.number), self.sub.as_ref().map(|sub| sub.number)].into_iter().flatten()
    }

    /// Whether its source sends a key frame soon after a request for one.
    pub fn answers_key_frames(&self) -> bool {
        self.answers_key_frames
    }

    /// Whether its source is a publisher.
    pub fn is_published(&self) -> bool {
        self.is_published
    }

    /// Whether this generation of the stream is over: its camera was removed or changed.
    pub fn has_ended(&self) -> bool {
        self.ended.is_cancelled()
    }

    /// The source panics at its next packet: for tests of what becomes of its neighbours.
    #[cfg(debug_assertions)]
    pub async fn sink(&self) {
        let _ = self.commands.send(Command::Sink).await;
    }

    /// Puts a publisher in the place of whoever was there; `false` if the stream has ended.
    pub async fn attach(&self, session: published::PublishedConnection) -> bool {
        self.commands.send(Command::Attach(Box::new(session))).await.is_ok()
    }

    /// Its current status.
    pub fn status(&self) -> Arc<StreamStatus> {
        self.status.borrow().clone()
    }

    /// Follows its status.
    pub fn watch_status(&self) -> watch::Receiver<Arc<StreamStatus>> {
        self.status.clone()
    }

    /// Wakes the source and keeps it running as long as the returned value lives.
    pub async fn want(&self) -> Interest {
        let interest = Interest::clone(&self.interest);
        let _ = self.commands.send(Command::Hurry).await;
        interest
    }

    /// Sends a command without waiting; `false` if the stream is gone or its queue is full.
    pub fn try_send(&self, command: Command) -> bool {
        self.commands.try_send(command).is_ok()
    }

    /// Sends a command that must not be lost, from a thread outside the runtime. The task always drains its
    /// queue and never waits for senders, so this blocks only briefly.
    pub fn send_blocking(&self, command: Command) {
        // An error means that the stream has ended, so the command no longer matters.
        let _ = self.commands.blocking_send(command);
    }
}

/// What [`Streams::set`] has done.
#[derive(Default, Debug, PartialEq, Eq)]
pub struct Change {
    /// Streams that were added or restarted.
    pub started: usize,
    /// The numbers of the runs that have ended; their viewers must be disconnected.
    pub ended: Vec<u64>,
}

/// All streams by name.
#[derive(Clone, Default)]
pub struct Streams {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    by_id: RwLock<HashMap<StreamName, Known>>,
    numbers: AtomicU64,
    budget: Arc<CacheBudget>,
}

struct Known {
    spec: StreamSpec,
    handle: StreamHandle,
    /// Temporary: not configured, exists only while somebody publishes it.
    passing: bool,
}

impl Streams {
    /// Without any streams yet; all their caches together take at most `cache` bytes.
    pub fn new(cache: usize) -> Self {
        let budget = Arc::new(CacheBudget::new(cache));
        Self { inner: Arc::new(Inner { budget, ..Inner::default() }) }
    }

    /// Looks a stream up.
    pub fn get(&self, id: &StreamName) -> Option<StreamHandle> {
        let map = self.inner.by_id.read().unwrap_or_else(PoisonError::into_inner);
        map.get(id).map(|known| known.handle.clone())
    }

    /// Replaces the set of configured streams: adds, removes and restarts only those that differ.
    pub fn set(&self, specs: Vec<(StreamName, StreamSpec)>) -> Change {
        let mut map = self.inner.by_id.write().unwrap_or_else(PoisonError::into_inner);
        let wanted: HashMap<StreamName, StreamSpec> = specs.into_iter().collect();
        let mut change = Change::default();
        map.retain(|id, known| {
            let stays = known.passing || wanted.get(id) == Some(&known.spec);
            if !stays {
                known.handle.ended.cancel();
                change.ended.extend(known.handle.numbers());
            }
            stays
        });
        for (id, spec) in wanted {
            if let Entry::Vacant(place) = map.entry(id) {
                change.started += 1;
                let handle = self.spawn(place.key().clone(), spec.clone());
                place.insert(Known { spec, handle, passing: false });
            }
        }
        change
    }

    /// The temporary published stream of this name; created if it does not exist.
    pub fn passing(&self, id: &StreamName) -> StreamHandle {
        let mut map = self.inner.by_id.write().unwrap_or_else(PoisonError::into_inner);
        match map.entry(id.clone()) {
            Entry::Occupied(place) => place.get().handle.clone(),
            Entry::Vacant(place) => {
                let spec = StreamSpec::new(SourceSpec::Published, false);
                let handle = self.spawn(id.clone(), spec.clone());
                place.insert(Known { spec, handle: handle.clone(), passing: true });
                handle
            }
        }
    }

    /// The names of all temporary published streams.
    pub fn all_passing(&self) -> Vec<StreamName> {
        let map = self.inner.by_id.read().unwrap_or_else(PoisonError::into_inner);
        map.iter().filter(|(_, known)| known.passing).map(|(id, _)| id.clone()).collect()
    }

    /// Ends a temporary published stream; returns the number of its run.
    pub fn end_passing(&self, id: &StreamName) -> Option<u64> {
        let mut map = self.inner.by_id.write().unwrap_or_else(PoisonError::into_inner);
        if !map.get(id)?.passing {
            return None;
        }
        let known = map.remove(id)?;
        known.handle.ended.cancel();
        Some(known.handle.number())
    }

    fn spawn(&self, id: StreamName, spec: StreamSpec) -> StreamHandle {
        let ended = CancellationToken::new();
        let sub =
            spec.sub().map(|sub| Arc::new(self.start(id.clone(), Layer::Sub, sub, ended.clone(), None)));
        self.start(id, Layer::Main, spec, ended, sub)
    }

    fn start(
        &self,
        id: StreamName,
        layer: Layer,
        spec: StreamSpec,
        ended: CancellationToken,
        sub: Option<Arc<StreamHandle>>,
    ) -> StreamHandle {
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let (sender, status) = watch::channel(Arc::new(StreamStatus::default()));
        let interest = Interest::new(Arc::new(Notify::new()));
        let shared = Interest::clone(&interest);
        let answers_key_frames = spec.source.answers_key_frames();
        let is_published = spec.source == SourceSpec::Published;
        let label = match layer {
            Layer::Main => id.to_string(),
            Layer::Sub => format!("{id}?layer=sub"),
        };
        let number = self.inner.numbers.fetch_add(1, Ordering::Relaxed) + 1;
        let budget = (number, self.inner.budget.clone());
        tokio::spawn(Task::new(label, spec, receiver, sender, interest, budget).run(ended.clone()));
        let interest = Arc::new(shared);
        StreamHandle { id, number, commands, status, interest, answers_key_frames, is_published, ended, sub }
    }
}
