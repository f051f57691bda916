//! A source that is pushed to us: somebody publishes by WHIP, and the media engine puts what arrives into a [`Feed`].
//! The stream's task holds the other end, [`PublishedConnection`]. Permissions are checked elsewhere.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::packet::{AudioCodec, VideoCodec};
use super::source::{Arrival, Offered, SourceError};
use super::status::AudioStatus;

/// Minimum interval between two key frame requests.
const KEY_FRAME_PAUSE: Duration = Duration::from_secs(1);
/// Capacity of the queue from the engine to the stream, in packets: more than the largest key frame.
const QUEUE: usize = 1024;

/// Asks a publisher for a key frame.
pub trait KeyFrames: Send + Sync {
    /// Sends the request without waiting.
    fn request(&self);
}

/// The engine's end.
#[derive(Clone)]
pub struct Feed {
    arrivals: mpsc::Sender<Arrival>,
}

/// The outcome of feeding an arrival.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fed {
    /// It is queued.
    Taken,
    /// The queue is full; the arrival is dropped.
    Full,
    /// The stream has ended, or another publisher has taken it over.
    Ended,
}

impl Feed {
    /// Queues an arrival without waiting.
    pub fn send(&self, arrival: Arrival) -> Fed {
        match self.arrivals.try_send(arrival) {
            Ok(()) => Fed::Taken,
            Err(mpsc::error::TrySendError::Full(_)) => Fed::Full,
            Err(mpsc::error::TrySendError::Closed(_)) => Fed::Ended,
        }
    }

    /// Whether the stream no longer accepts anything.
    pub fn is_closed(&self) -> bool {
        self.arrivals.is_closed()
    }
}

/// A connected publisher, as seen by its stream.
pub struct PublishedConnection {
    arrivals: mpsc::Receiver<Arrival>,
    key_frames: Arc<dyn KeyFrames>,
    last_request: Option<Instant>,
    offered: Offered,
}

impl PublishedConnection {
    /// Creates both ends. `key_frames` sends requests to the publisher.
    pub fn new(
        video: Option<VideoCodec>,
        audio: Option<AudioCodec>,
        key_frames: Arc<dyn KeyFrames>,
    ) -> (Feed, Self) {
        let (sender, arrivals) = mpsc::channel(QUEUE);
        let status = audio.map(|codec| AudioStatus {
            codec: codec.name().into(),
            playable: true,
            silent: false,
            passed: Some(codec),
        });
        let offered = Offered { video, audio: status, audio_codec: audio, ..Offered::default() };
        (Feed { arrivals: sender }, Self { arrivals, key_frames, last_request: None, offered })
    }

    /// What is published.
    pub fn offered(&self) -> &Offered {
        &self.offered
    }

    /// The next arrival. May be dropped without losing one.
    ///
    /// # Errors
    /// The publisher is gone.
    pub async fn next(&mut self) -> Result<Arrival, SourceError> {
        self.arrivals.recv().await.ok_or_else(gone)
    }

    /// Sends PLI upstream, at most once a second.
    pub fn request_key_frame(&mut self) {
        let now = Instant::now();
        if self.last_request.is_none_or(|last| now.duration_since(last) >= KEY_FRAME_PAUSE) {
            self.last_request = Some(now);
            self.key_frames.request();
        }
    }
}

/// The error of a stream that has no publisher.
pub fn gone() -> SourceError {
    SourceError::soon("not_published", "nobody is publishing this stream at the moment")
}
