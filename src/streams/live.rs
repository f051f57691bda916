//! The state of one connection of a stream's source: what has arrived, what is known about it, whether it can be shown.
//! Not the task that owns it; that is in `stream`. Start at [`Live`].

use std::time::{Duration, Instant, SystemTime};

use super::connection::SourceConnection;
use super::frames::Framer;
use super::meter::Meter;
use super::status::{Reason, VideoStatus};

/// After this many frames without a B-frame, a stream that could have B-frames is assumed to have none; all cameras
/// seen so far send the first B-frame as the third frame at the latest.
const B_FRAME_WAIT: u32 = 4;
/// A publisher that sends audio but no video for this long is assumed to have its camera off.
const PICTURE_WAIT: Duration = Duration::from_millis(1500);

/// The state of one connection of the source.
pub struct Live {
    /// The connection itself.
    pub session: SourceConnection,
    /// Normalizes its video, if it has any.
    pub framer: Option<Framer>,
    /// Measures the video.
    pub meter: Meter,
    /// When it was connected.
    pub started: Instant,
    /// When the last packet arrived.
    pub last_packet: Instant,
    /// Whether a key frame has arrived.
    pub key_seen: bool,
    /// The last frame's timestamp, and the number of frames so far.
    frames: (u32, u32),
    /// Whether audio has arrived.
    pub heard: bool,
    /// A key frame was requested and has not arrived yet; the request is repeated because it may get lost.
    pub key_wanted: bool,
    /// Whether the published status is `live`.
    pub announced: bool,
    /// The source's wall clock and ours at the same moment, from its first sender report.
    pub wall_offset: Option<(SystemTime, Instant)>,
}

impl Live {
    /// For a session that has just begun.
    pub fn new(session: SourceConnection, now: Instant) -> Self {
        let offered = session.offered();
        let framer = offered.video.map(|codec| Framer::new(codec, &offered.parameter_sets));
        Self {
            session,
            framer,
            meter: Meter::default(),
            started: now,
            last_packet: now,
            key_seen: false,
            frames: (0, 0),
            heard: false,
            key_wanted: false,
            announced: false,
            wall_offset: None,
        }
    }

    /// Counts a video packet; `key` if it began a key frame.
    pub fn count(&mut self, now: Instant, timestamp: u32, key: bool) {
        if key {
            self.meter.key_frame(now);
        }
        self.key_seen |= key;
        self.key_wanted &= !key;
        if self.frames.0 != timestamp || self.frames.1 == 0 {
            self.frames = (timestamp, self.frames.1 + 1);
        }
    }

    /// Whether enough has arrived to admit viewers: anything that cannot be shown must be detected before.
    pub fn is_known(&self) -> bool {
        if !self.key_seen {
            return false;
        }
        let Some(findings) = self.framer.as_ref().and_then(Framer::findings) else { return true };
        let never_reordered = findings.info.as_ref().and_then(|info| info.reorder_frames) == Some(0);
        never_reordered || findings.b_frames || self.frames.1 >= B_FRAME_WAIT
    }

    /// Whether it is audio-only, permanently or for now.
    pub fn is_sound_alone(&self, now: Instant) -> bool {
        let patience = now.duration_since(self.started) >= PICTURE_WAIT;
        let published = matches!(self.session, SourceConnection::Published(_));
        self.heard && !self.key_seen && (self.framer.is_none() || (published && patience))
    }

    /// Why the video cannot be shown.
    pub fn problem(&self) -> Option<Reason> {
        let findings = self.framer.as_ref().and_then(Framer::findings);
        findings.is_some_and(|findings| findings.b_frames).then(|| Reason {
        code: "camera_b_frames",
        message: "the camera sends B-frames, which WebRTC cannot show: set its H.264 profile to Baseline, or B-frames to 0"
            .into(),
    })
    }

    /// The status of its video, with the current measurements.
    pub fn video_status(&mut self, now: Instant) -> Option<VideoStatus> {
        let findings = self.framer.as_ref().and_then(Framer::findings);
        let info = findings.and_then(|findings| findings.info.clone());
        let b_frames = findings.is_some_and(|findings| findings.b_frames);
        let measured = self.meter.measure(now);
        let codec = self.session.offered().video?;
        Some(VideoStatus { codec: codec.name(), info, b_frames, measured })
    }
}
