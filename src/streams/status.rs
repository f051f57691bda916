//! What a stream says of itself, as the HTTP API shows it. Only data: who fills it in is `stream`.

use std::time::SystemTime;

use serde::Serialize;

use super::h264::parameters::VideoInfo;
use super::packet::{AudioCodec, VideoCodec};

/// Where a stream's source stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nobody watches and the source is on demand.
    #[default]
    Idle,
    /// The source is being connected, or its first frame is awaited.
    Connecting,
    /// Frames arrive.
    Live,
    /// The source failed and is tried again at `retry_at`.
    Retrying,
    /// The source failed in a way that time alone hardly mends; it is still tried again at `retry_at`.
    Failed,
}

/// Why something does not work: a stable code for programs and pages, and words for logs.
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
    /// Pictures are sent in another order than shown.
    pub b_frames: bool,
    /// What was measured over the last seconds.
    #[serde(flatten)]
    pub measured: Measured,
}

/// Figures of the video as it arrives.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub struct Measured {
    /// Frames per second.
    pub fps: f64,
    /// Bits per second of payload.
    pub bitrate: u64,
    /// Frames from one key frame to the next, once two were seen.
    pub gop_frames: Option<u32>,
    /// Milliseconds from one key frame to the next.
    pub gop_ms: Option<u32>,
    /// Packets that were lost before us since the source was connected.
    pub lost_packets: u64,
    /// The largest payload as it came.
    pub largest_payload: usize,
}

/// The audio track.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct AudioStatus {
    /// The codec's name in SDP, such as `PCMU` or `MPEG4-GENERIC`.
    pub codec: String,
    /// Whether browsers can play it as it is.
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
    /// Where its source stands.
    pub state: State,
    /// Why it is not live, if that is so.
    pub reason: Option<Reason>,
    /// When it is tried again, as milliseconds since 1970.
    #[serde(serialize_with = "unix_ms")]
    pub retry_at: Option<SystemTime>,
    /// Since when it is in this state, as milliseconds since 1970.
    #[serde(serialize_with = "unix_ms")]
    pub since: Option<SystemTime>,
    /// The video track, once known; kept while the source is away. None of a live stream is one of sound alone.
    pub video: Option<VideoStatus>,
    /// The audio track, once known.
    pub audio: Option<AudioStatus>,
    /// Why the stream cannot be shown in a browser although it is live.
    pub problem: Option<Reason>,
    /// How many watch.
    pub viewers: usize,
}

impl StreamStatus {
    /// Whether a viewer that joins now gets a picture.
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
