//! A source that comes to us: somebody publishes by WHIP, and the media engine feeds what arrives into a [`Feed`].
//! The stream's task holds the other end, [`PublishedConnection`]. Who may publish is decided elsewhere.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::packet::{AudioCodec, VideoCodec};
use super::source::{Arrival, Offered, SourceError};
use super::status::AudioStatus;

/// Between two requests for a key frame.
const KEY_FRAME_PAUSE: Duration = Duration::from_secs(1);
/// Packets on their way from the engine to the stream: more than the largest key frame.
const QUEUE: usize = 1024;

/// Asks a publisher for a key frame.
pub trait KeyFrames: Send + Sync {
    /// Without waiting.
    fn request(&self);
}

/// The engine's end.
#[derive(Clone)]
pub struct Feed {
    arrivals: mpsc::Sender<Arrival>,
}

/// What became of an arrival.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fed {
    /// It is on its way.
    Taken,
    /// The stream is behind: it is lost.
    Full,
    /// The stream has ended, or another publisher has taken it over.
    Ended,
}

impl Feed {
    /// Hands an arrival on without waiting.
    pub fn send(&self, arrival: Arrival) -> Fed {
        match self.arrivals.try_send(arrival) {
            Ok(()) => Fed::Taken,
            Err(mpsc::error::TrySendError::Full(_)) => Fed::Full,
            Err(mpsc::error::TrySendError::Closed(_)) => Fed::Ended,
        }
    }

    /// Whether nobody takes anything any more.
    pub fn is_closed(&self) -> bool {
        self.arrivals.is_closed()
    }
}

/// A publisher that is connected, as its stream sees it.
pub struct PublishedConnection {
    arrivals: mpsc::Receiver<Arrival>,
    key_frames: Arc<dyn KeyFrames>,
    last_request: Option<Instant>,
    offered: Offered,
}

impl PublishedConnection {
    /// Both ends. `key_frames` leads to the publisher.
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
        let offered = Offered { parameter_sets: Vec::new(), video, audio: status, audio_codec: audio };
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

/// Why a published stream has nothing to show.
pub fn gone() -> SourceError {
    SourceError::soon("not_published", "nobody publishes this stream at the moment")
}
