//! The status of a stream, as shown by the HTTP API. Data only: `stream` fills it in. Start at [`StreamStatus`].

use std::time::SystemTime;

use serde::Serialize;

use super::h264::parameters::VideoInfo;
use super::packet::{AudioCodec, VideoCodec};

/// The state of a stream's source.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nobody watches and the source is on demand.
    #[default]
    Idle,
    /// The source is connecting, or its first frame has not arrived yet.
    Connecting,
    /// Frames arrive.
    Live,
    /// The source failed and will be retried at `retry_at`.
    Retrying,
    /// The source failed in a way that probably needs operator action; it is still retried at `retry_at`.
    Failed,
}

/// Why something does not work: a stable code for programs and pages, and a message for logs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Reason {
    /// Stable, such as `camera_login`.
    pub code: &'static str,
    /// English, without any secret.
    pub message: String,
}

/// The video track.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct VideoStatus {
    /// As `H264`, `VP8`, `VP9` or `AV1`.
    pub codec: VideoCodec,
    /// From the SPS.
    #[serde(flatten)]
    pub info: Option<VideoInfo>,
    /// Whether frames are sent in a different order than they are shown.
    pub b_frames: bool,
    /// Measured over the last seconds.
    #[serde(flatten)]
    pub measured: Measured,
}

/// Measurements of the incoming video.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub struct Measured {
    /// Frames per second.
    pub fps: f64,
    /// Bits per second of payload.
    pub bitrate: u64,
    /// Frames from one key frame to the next, once two have arrived.
    pub gop_frames: Option<u32>,
    /// Milliseconds from one key frame to the next.
    pub gop_ms: Option<u32>,
    /// Packets lost upstream since the source connected.
    pub lost_packets: u64,
    /// The largest incoming payload.
    pub largest_payload: usize,
}

/// The audio track.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct AudioStatus {
    /// The codec's name in SDP, such as `PCMU` or `MPEG4-GENERIC`.
    pub codec: String,
    /// Whether browsers can play it without transcoding.
    pub playable: bool,
    /// Nothing has come of it for five seconds.
    pub silent: bool,
    /// The codec, if it is passed on.
    #[serde(skip)]
    pub passed: Option<AudioCodec>,
}

/// Everything about one stream.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct StreamStatus {
    /// The state of its source.
    pub state: State,
    /// Why it is not live, if something failed.
    pub reason: Option<Reason>,
    /// When it is retried, in milliseconds since 1970.
    #[serde(serialize_with = "unix_ms")]
    pub retry_at: Option<SystemTime>,
    /// When it entered this state, in milliseconds since 1970.
    #[serde(serialize_with = "unix_ms")]
    pub since: Option<SystemTime>,
    /// The video track, once known; kept while the source is disconnected. A live stream without it is audio-only.
    pub video: Option<VideoStatus>,
    /// The audio track, once known.
    pub audio: Option<AudioStatus>,
    /// Why the stream cannot be shown in a browser although it is live.
    pub problem: Option<Reason>,
    /// What is not as it should be, and is no obstacle.
    pub notes: Vec<Reason>,
    /// The number of viewers.
    pub viewers: usize,
}

impl StreamStatus {
    /// Whether a viewer who joins now would receive playable media.
    pub fn is_watchable(&self) -> bool {
        let playable =
            self.video.is_some() || self.audio.as_ref().is_some_and(|audio| audio.passed.is_some());
        self.state == State::Live && playable && self.problem.is_none()
    }
}

fn unix_ms<S: serde::Serializer>(time: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
    match time.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok()) {
        Some(since) => serializer.serialize_some(&(since.as_millis() as u64)),
        None => serializer.serialize_none(),
    }
}
