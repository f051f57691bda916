//! The task that owns one stream: its source, its hub, its state. It starts the source when somebody watches, stops
//! it some time after the last viewer has left, and restarts it when it fails. Others send it commands and read its
//! status. Start reading at [`Task::run`].

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures::future::BoxFuture;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::backoff::{Backoff, Hope};
use super::cache_budget::CacheBudget;
use super::check::Check;
use super::connection::SourceConnection;
use super::h264::shape::Shaped;
use super::hub::{Hub, Sink, SinkId};
use super::interest::Interest;
use super::live::Live;
use super::outage::{Line, Outage};
use super::packet::{AudioCodec, G711_CLOCK, Timeline, VIDEO_CLOCK, VideoCodec};
use super::published;
use super::source::{Arrival, SourceError, SourceSpec};
use super::spec::StreamSpec;
use super::status::{AudioStatus, Reason, State, StreamStatus};
use crate::compartment::{self, Panicked};

/// A source that has failed is tried for at least this long after somebody wanted it: pages try again less often.
const AWAITED: Duration = Duration::from_secs(30);
/// Between two updates of the measured figures.
const TICK: Duration = Duration::from_secs(1);

/// Commands to the task.
pub enum Command {
    /// Adds a sink, which first receives the cached GOP.
    Subscribe(SinkId, Arc<dyn Sink>),
    /// Removes a sink.
    Unsubscribe(SinkId),
    /// Sets a sink's number of viewers.
    Viewers(SinkId, usize),
    /// A viewer has arrived: retry as soon as the back-off allows.
    Hurry,
    /// A viewer needs a key frame that is not in the cache.
    KeyFrame,
    /// Attaches a publisher.
    Attach(Box<published::PublishedConnection>),
    /// The source panics at its next packet: for tests.
    #[cfg(debug_assertions)]
    Sink,
}

mod media;
mod watchdog;

/// The state of the source.
enum Phase {
    Idle,
    Connecting(BoxFuture<'static, Result<SourceConnection, SourceError>>),
    Live(Box<Live>),
    Waiting(Instant),
}

/// An event of the source.
enum Step {
    Connected(Result<SourceConnection, SourceError>),
    Arrived(Result<Arrival, SourceError>),
    TryAgain,
}

impl Phase {
    /// Waits for the source's next event. May be dropped at any time.
    async fn step(&mut self) -> Step {
        match self {
            Self::Idle => std::future::pending().await,
            Self::Connecting(connecting) => Step::Connected(connecting.await),
            Self::Live(live) => Step::Arrived(live.connection.next().await),
            Self::Waiting(until) => {
                tokio::time::sleep_until((*until).into()).await;
                Step::TryAgain
            }
        }
    }
}

/// See the module documentation.
pub struct Task {
    /// What the log calls it.
    label: String,
    spec: StreamSpec,
    commands: mpsc::Receiver<Command>,
    status: watch::Sender<Arc<StreamStatus>>,
    interest: Interest,
    interest_changed: Arc<Notify>,
    hub: Hub,
    viewers: Vec<(SinkId, usize)>,
    phase: Phase,
    backoff: Backoff,
    outage: Outage,
    video: Timeline,
    audio: Timeline,
    idle_since: Option<Instant>,
    shaped: Vec<Shaped>,
    /// The source's codecs when it was last connected; viewers have negotiated these.
    codecs: Option<(Option<VideoCodec>, Option<AudioCodec>)>,
    /// A published picture has stopped.
    video_paused: bool,
    /// The camera has accepted everything over TCP and sent nothing: now it is asked for UDP, or the other way round.
    over_udp: bool,
    check: Check,
    budget: Arc<CacheBudget>,
    /// The number of this stream in the budget, and when it was last watched.
    number: u64,
    watched: Instant,
    panics: u64,
    #[cfg(debug_assertions)]
    sinks: bool,
}

impl Task {
    /// A task that is not running yet.
    pub fn new(
        label: String,
        spec: StreamSpec,
        commands: mpsc::Receiver<Command>,
        status: watch::Sender<Arc<StreamStatus>>,
        interest: Interest,
        (number, budget): (u64, Arc<CacheBudget>),
    ) -> Self {
        let now = Instant::now();
        let check = Check::new(&spec.source, spec.check_interval, now, rand::random());
        let hub = Hub::new(spec.gop_cache);
        let interest_changed = interest.changed.clone();
        Self {
            label,
            spec,
            commands,
            status,
            interest,
            interest_changed,
            hub,
            viewers: Vec::new(),
            phase: Phase::Idle,
            backoff: Backoff::default(),
            outage: Outage::default(),
            video: Timeline::new(VIDEO_CLOCK, rand::random()),
            audio: Timeline::new(G711_CLOCK, rand::random()),
            idle_since: None,
            shaped: Vec::new(),
            codecs: None,
            video_paused: false,
            over_udp: false,
            check,
            budget,
            number,
            watched: now,
            panics: 0,
            #[cfg(debug_assertions)]
            sinks: false,
        }
    }

    /// Runs until it is removed, or all handles are gone.
    pub async fn run(mut self, ended: CancellationToken) {
        let reason = self.is_published().then(|| published::gone().reason());
        self.set_state(State::Idle, reason, None);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.consider(Instant::now());
            let flush = self.hub.deadline();
            let idle = self.idle_since.map(|since| since + self.patience());
            let check = self.check.due().filter(|_| matches!(self.phase, Phase::Idle));
            tokio::select! {
                () = ended.cancelled() => return self.give_up_cache(),
                step = compartment::run_async(self.phase.step()) => self.contained(step),
                command = self.commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => return,
                },
                () = sleep_until(flush) => self.hub.flush(),
                () = self.interest_changed.notified() => {}
                () = sleep_until(idle) => {}
                () = sleep_until(check) => self.check.start(&self.spec.source),
                found = compartment::run_async(self.check.run()) => self.checked(found),
                _ = tick.tick(), if matches!(self.phase, Phase::Live(_)) => self.tick(Instant::now()),
            }
        }
    }

    fn is_published(&self) -> bool {
        self.spec.source == SourceSpec::Published
    }

    /// Starts or stops the source, depending on whether it is needed. Publishers come and go on their own.
    fn consider(&mut self, now: Instant) {
        if self.is_published() {
            return;
        }
        let wanted = !self.spec.on_demand || self.hub.has_sinks() || self.interest.is_wanted();
        if wanted {
            self.idle_since = None;
            if matches!(self.phase, Phase::Idle) {
                self.check.done(None, now, rand::random());
                self.connect();
            }
            return;
        }
        if matches!(self.phase, Phase::Idle) {
            self.idle_since = None;
            return;
        }
        let since = *self.idle_since.get_or_insert(now);
        if now.saturating_duration_since(since) >= self.patience() {
            self.idle_since = None;
            // What has failed is not ready again because nobody watches: the reason stays until it works.
            let reason =
                self.status.borrow().reason.clone().filter(|_| !matches!(self.phase, Phase::Live(_)));
            self.phase = Phase::Idle;
            self.source_gone();
            debug!(stream = %self.label, "no viewers: source stopped");
            self.set_state(State::Idle, reason, None);
        }
    }

    /// How long the source goes on without a viewer.
    fn patience(&self) -> Duration {
        let idle_timeout = self.spec.idle_timeout;
        if self.status.borrow().state == State::Retrying { idle_timeout.max(AWAITED) } else { idle_timeout }
    }

    /// The camera has been looked after while nobody watches.
    fn checked(&mut self, found: Result<Result<Option<AudioStatus>, SourceError>, Panicked>) {
        let now = Instant::now();
        let found = found.unwrap_or_else(|panicked| {
            error!(code = "internal", stream = %self.label, "the check of the camera: {panicked}");
            Err(SourceError::slowly("internal", "the check had an internal error"))
        });
        self.check.done(found.as_ref().err(), now, rand::random());
        match found {
            Ok(audio) => {
                if let Some(lasted) = self.outage.ended(now) {
                    info!(stream = %self.label, outage_s = lasted.as_secs(), "the camera answers again");
                }
                self.set_state(State::Idle, None, None);
                self.modify(|status| status.audio = audio);
            }
            Err(error) => {
                self.log_failure(now, &error);
                self.set_state(State::Idle, Some(error.reason()), None);
            }
        }
    }

    fn give_up_cache(&self) {
        self.budget.report(self.number, 0, self.watched);
    }

    fn connect(&mut self) {
        let over_udp = self.spec.source.over_udp().filter(|_| self.over_udp);
        let source = over_udp.unwrap_or_else(|| self.spec.source.clone());
        self.phase = Phase::Connecting(Box::pin(async move { SourceConnection::connect(&source).await }));
        // A source that is retried keeps its reason until it is live, so that the page continues to show it.
        let (reason, retrying) = {
            let status = self.status.borrow();
            (status.reason.clone(), matches!(status.state, State::Retrying | State::Failed))
        };
        if !retrying {
            self.set_state(State::Connecting, reason, None);
        }
    }

    fn source_gone(&mut self) {
        self.hub.forget();
        self.give_up_cache();
        self.video.restart();
        self.audio.restart();
    }

    /// Takes a step of the source; if the source panics, it fails like one that has an error, and is tried again.
    fn contained(&mut self, step: Result<Step, Panicked>) {
        let taken = step.and_then(|step| compartment::run(|| self.take_step(step)));
        if let Err(panicked) = taken {
            self.panics += 1;
            error!(code = "internal", stream = %self.label, panics = self.panics, "the source is closed: {panicked}");
            let error = SourceError::slowly("internal", "the source had an internal error");
            self.fail(&error, Instant::now());
        }
    }

    fn take_step(&mut self, step: Step) {
        let now = Instant::now();
        match step {
            Step::Connected(Ok(session)) => self.connected(session, now),
            Step::Connected(Err(error)) | Step::Arrived(Err(error)) => self.fail(&error, now),
            Step::Arrived(Ok(Arrival::Rtp(packet))) => self.packet(&packet, now),
            Step::Arrived(Ok(Arrival::Clock { track, timestamp, at, received })) => {
                self.clock(track, timestamp, at, received);
            }
            Step::TryAgain => self.connect(),
        }
    }

    fn connected(&mut self, session: SourceConnection, now: Instant) {
        let offered = session.offered();
        let audio = offered.audio.clone();
        let codecs = (offered.video, offered.audio_codec);
        if self.codecs.replace(codecs).is_some_and(|before| before != codecs) {
            // Existing viewers negotiated other codecs: they must renegotiate.
            self.hub.end();
        }
        let clock = codecs.1.map_or(G711_CLOCK, AudioCodec::clock);
        if clock != self.audio.clock() {
            self.audio = Timeline::new(clock, rand::random());
        }
        self.phase = Phase::Live(Box::new(Live::new(session, now)));
        self.modify(|status| {
            status.audio = audio;
            if codecs.0.is_none() {
                status.video = None;
            }
        });
    }

    /// Attaches a publisher, replacing the current one.
    fn attach(&mut self, session: published::PublishedConnection) {
        if matches!(self.phase, Phase::Live(_)) {
            self.source_gone();
        }
        self.set_state(State::Connecting, None, None);
        self.connected(SourceConnection::Published(Box::new(session)), Instant::now());
    }

    fn log_failure(&mut self, now: Instant, error: &SourceError) {
        let (stream, code, address) = (&self.label, error.code, self.spec.source.address());
        match self.outage.failed(now, code) {
            Some(Line::Failed) => warn!(%stream, code, address, "source failed: {error}"),
            Some(Line::StillFailing { lasted, attempts }) => {
                warn!(%stream, code, address, minutes = lasted.as_secs() / 60, attempts, "source still fails: {error}");
            }
            None => debug!(%stream, code, address, "source failed: {error}"),
        }
    }

    fn fail(&mut self, error: &SourceError, now: Instant) {
        if self.is_published() {
            info!(stream = %self.label, "publisher disconnected");
            self.phase = Phase::Idle;
            self.source_gone();
            return self.set_state(State::Idle, Some(error.reason()), None);
        }
        let lived = match &self.phase {
            Phase::Live(live) if live.announced => now.duration_since(live.started),
            _ => Duration::ZERO,
        };
        let awaited = self.hub.has_sinks() || self.interest.is_wanted();
        let until = self.backoff.failed(now, (error.hope, awaited), lived, rand::random());
        let again_in = until.saturating_duration_since(now);
        self.log_failure(now, error);
        self.phase = Phase::Waiting(until);
        self.source_gone();
        let state = match error.hope {
            Hope::Soon | Hope::Away => State::Retrying,
            Hope::Slowly => State::Failed,
        };
        self.set_state(state, Some(error.reason()), Some(SystemTime::now() + again_in));
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Subscribe(id, sink) => self.hub.add(id, sink),
            Command::Unsubscribe(id) => {
                self.hub.remove(id);
                self.viewers.retain(|(other, _)| *other != id);
                self.publish_viewers();
            }
            Command::Viewers(id, count) => {
                self.viewers.retain(|(other, _)| *other != id);
                self.viewers.push((id, count));
                self.publish_viewers();
            }
            Command::Hurry => {
                if let Phase::Waiting(until) = &mut self.phase {
                    *until = (*until).min(self.backoff.hurried(Instant::now()));
                }
            }
            Command::Attach(session) => {
                if self.is_published() {
                    self.attach(*session);
                }
            }
            #[cfg(debug_assertions)]
            Command::Sink => self.sinks = true,
            Command::KeyFrame => {
                if let Phase::Live(live) = &mut self.phase {
                    live.key_wanted = true;
                    live.connection.request_key_frame();
                }
            }
        }
    }

    fn publish_viewers(&self) {
        let count = self.viewers.iter().map(|(_, count)| count).sum();
        self.modify(|status| status.viewers = count);
    }

    fn set_state(&self, state: State, reason: Option<Reason>, retry_at: Option<SystemTime>) {
        self.modify(|status| {
            if status.state != state || status.since.is_none() {
                status.since = Some(SystemTime::now());
            }
            status.state = state;
            status.reason = reason;
            status.retry_at = retry_at;
        });
    }

    fn modify(&self, change: impl FnOnce(&mut StreamStatus)) {
        self.status.send_if_modified(|shared| {
            let mut status = StreamStatus::clone(shared);
            change(&mut status);
            let changed = status != **shared;
            if changed {
                *shared = Arc::new(status);
            }
            changed
        });
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
