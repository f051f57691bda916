//! One connection of a stream's source: what has come of it, what is known of it, whether it can be shown. The task
//! that owns it is `stream`'s.

use std::time::{Duration, Instant, SystemTime};

use super::connection::SourceConnection;
use super::frames::Framer;
use super::meter::Meter;
use super::packet::Track;
use super::status::{Reason, VideoStatus};

/// Frames after which a stream that may have B-frames is taken not to have them; a B-frame is the third of its
/// stream at the latest, in all cameras that were seen.
const B_FRAME_WAIT: u32 = 4;
/// A publisher whose sound comes without a picture for this long has its camera off.
const PICTURE_WAIT: Duration = Duration::from_millis(1500);

/// What belongs to one connection of the source.
pub struct Live {
    /// Where packets come from.
    pub connection: SourceConnection,
    /// Brings its video into shape, if it has any.
    pub framer: Option<Framer>,
    /// Of the video.
    pub meter: Meter,
    /// When it was connected.
    pub started: Instant,
    /// When a packet of video came last.
    last_video: Instant,
    /// When a packet of sound came last.
    last_audio: Instant,
    /// Whether a key frame has come.
    pub key_seen: bool,
    /// The last frame's timestamp, and how many there were.
    frames: (u32, u32),
    /// Whether sound has come.
    pub heard: bool,
    /// A key frame was asked for and has not come yet: the request may be lost.
    pub key_wanted: bool,
    /// The status says `live`.
    pub announced: bool,
    /// The source's wall clock against ours, from its first sender report.
    pub wall_offset: Option<(SystemTime, Instant)>,
}

impl Live {
    /// Of a session that has just begun.
    pub fn new(connection: SourceConnection, now: Instant) -> Self {
        let offered = connection.offered();
        let framer = offered.video.map(|codec| Framer::new(codec, &offered.parameter_sets));
        Self {
            connection,
            framer,
            meter: Meter::default(),
            started: now,
            last_video: now,
            last_audio: now,
            key_seen: false,
            frames: (0, 0),
            heard: false,
            key_wanted: false,
            announced: false,
            wall_offset: None,
        }
    }

    /// A packet has come.
    pub fn heard_of(&mut self, track: Track, now: Instant) {
        match track {
            Track::Video => self.last_video = now,
            Track::Audio => self.last_audio = now,
        }
    }

    /// How long nothing has come of a track that the source has; `None` if it has no such track.
    pub fn silent_for(&self, track: Track, now: Instant) -> Option<Duration> {
        let offered = self.connection.offered();
        let last = match track {
            Track::Video => offered.video.map(|_| self.last_video)?,
            Track::Audio => offered.audio_codec.map(|_| self.last_audio)?,
        };
        Some(now.saturating_duration_since(last))
    }

    /// Counts a packet of video, of whose frames a key frame may have begun.
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

    /// Whether enough has come to say that viewers may come: what could not be shown must be known before.
    pub fn is_known(&self) -> bool {
        if !self.key_seen {
            return false;
        }
        let Some(findings) = self.framer.as_ref().and_then(Framer::findings) else { return true };
        let never_reordered = findings.info.as_ref().and_then(|info| info.reorder_frames) == Some(0);
        never_reordered || findings.b_frames || self.frames.1 >= B_FRAME_WAIT
    }

    /// Whether it is sound alone, for good or for now.
    pub fn is_sound_alone(&self, now: Instant) -> bool {
        let patience = now.duration_since(self.started) >= PICTURE_WAIT;
        let published = matches!(self.connection, SourceConnection::Published(_));
        self.heard && !self.key_seen && (self.framer.is_none() || (published && patience))
    }

    /// Why what comes cannot be shown.
    pub fn problem(&self) -> Option<Reason> {
        let findings = self.framer.as_ref().and_then(Framer::findings);
        findings.is_some_and(|findings| findings.b_frames).then(|| Reason {
        code: "camera_b_frames",
        message: "the camera sends B-frames, which WebRTC cannot show: set its H.264 profile to Baseline, or B-frames to 0"
            .into(),
    })
    }

    /// What its video is, as measured until now.
    pub fn video_status(&mut self, now: Instant) -> Option<VideoStatus> {
        let findings = self.framer.as_ref().and_then(Framer::findings);
        let info = findings.and_then(|findings| findings.info.clone());
        let b_frames = findings.is_some_and(|findings| findings.b_frames);
        let measured = self.meter.measure(now);
        let codec = self.connection.offered().video?;
        Some(VideoStatus { codec, info, b_frames, measured })
    }
}
