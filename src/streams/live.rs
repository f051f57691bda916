//! The state of one connection of a stream's source: what has arrived, what is known about it, whether it can be shown.
//! Not the task that owns it; that is in `stream`. Start at [`Live`].

use std::time::{Duration, Instant, SystemTime};

use super::connection::SourceConnection;
use super::frames::Framer;
use super::meter::Meter;
use super::pace::Pace;
use super::packet::Track;
use super::status::{Reason, VideoStatus};

/// After this many frames without a B-frame, a stream that could have B-frames is assumed to have none; all cameras
/// seen so far send the first B-frame as the third frame at the latest.
const B_FRAME_WAIT: u32 = 4;
/// A publisher that sends audio but no video for this long is assumed to have its camera off.
const PICTURE_WAIT: Duration = Duration::from_millis(1500);

/// Until so many frames have come, nothing is known about the pauses between them.
const FEW_FRAMES: u32 = 3;
const SLOW_START: Duration = Duration::from_secs(20);
/// The longest time without video.
const LONGEST_PATIENCE: Duration = Duration::from_secs(60);

/// The state of one connection of the source.
pub struct Live {
    /// Where packets come from.
    pub connection: SourceConnection,
    /// Brings its video into shape, if it has any.
    pub framer: Option<Framer>,
    /// Times its frames.
    pub pace: Pace,
    /// Measures the video.
    pub meter: Meter,
    /// When it was connected.
    pub started: Instant,
    /// When a packet of video came last.
    last_video: Instant,
    /// The longest time between two packets of video, and how many have come.
    longest_pause: Duration,
    video_packets: u64,
    /// When a packet of sound came last.
    last_audio: Instant,
    /// Whether a key frame has come.
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
    /// Of a session that has just begun.
    pub fn new(connection: SourceConnection, now: Instant) -> Self {
        let offered = connection.offered();
        // The time stamps of browsers and other servers are right, also while they send next to nothing.
        let is_camera = matches!(connection, SourceConnection::Rtsp(_));
        let pace = if is_camera { Pace::default() } else { Pace::never() };
        let framer = offered.video.map(|codec| Framer::new(codec, &offered.parameter_sets));
        Self {
            connection,
            framer,
            pace,
            meter: Meter::default(),
            started: now,
            last_video: now,
            longest_pause: Duration::ZERO,
            video_packets: 0,
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
            Track::Video => {
                let pause = now.saturating_duration_since(self.last_video);
                if self.video_packets > 0 {
                    self.longest_pause = self.longest_pause.max(pause);
                }
                self.video_packets += 1;
                self.last_video = now;
            }
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

    /// How long it may send no video before it counts as frozen: some cameras send one frame in several seconds while
    /// nothing moves. `usual` is the time for all others.
    pub fn patience(&self, usual: Duration) -> Duration {
        let few = if self.frames.1 < FEW_FRAMES { SLOW_START } else { Duration::ZERO };
        usual.max(few).max(self.longest_pause * 3).min(LONGEST_PATIENCE)
    }

    /// What is not as it should be, and is no obstacle.
    pub fn notes(&self) -> Vec<Reason> {
        let by_arrival = self.pace.is_by_arrival().then(|| Reason {
            code: "timed_by_arrival",
            message: "the camera's time stamps are useless: its frames are timed by their arrival".into(),
        });
        self.connection.offered().notes.iter().cloned().chain(by_arrival).collect()
    }

    /// Whether no video has come at all.
    pub fn is_mute(&self) -> bool {
        self.video_packets == 0
    }

    /// Why there is no key frame yet.
    pub fn without_key_frame(&self, waited: Duration) -> Reason {
        let seconds = waited.as_secs();
        let findings = self.framer.as_ref().and_then(Framer::findings);
        if findings.is_some_and(|findings| findings.recovery_points > 0) {
            let message = format!(
                "the camera refreshes its picture in parts and sends no IDR frame, for {seconds} s: turn off intra refresh"
            );
            return Reason { code: "camera_intra_refresh", message };
        }
        if findings.is_some_and(|findings| findings.keys_without_parameters > 0) {
            let message = "the camera sends key frames without parameter sets (SPS and PPS)".to_owned();
            return Reason { code: "camera_parameter_sets", message };
        }
        let message = format!("the camera sends video, but no key frame yet, for {seconds} s");
        Reason { code: "camera_key_frame", message }
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
        let published = matches!(self.connection, SourceConnection::Published(_));
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
        let codec = self.connection.offered().video?;
        Some(VideoStatus { codec, info, b_frames, measured })
    }
}
