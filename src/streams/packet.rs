//! The data that flows through a stream: normalized RTP payloads and their timeline. Not RTP headers: those are
//! written per viewer. Start reading at [`Packet`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

/// Maximum size of a normalized RTP payload. With the RTP header and its extension (20), the SRTP tag (16) and the
/// UDP and IPv6 headers (48) it stays below IPv6's minimum MTU of 1,280 (RFC 8200 §5).
pub const MAX_PAYLOAD: usize = 1180;

/// One of a stream's two tracks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Track {
    /// Video.
    Video,
    /// Audio.
    Audio,
}

/// What pictures are coded with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default, serde::Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum VideoCodec {
    /// What cameras send. The only codec that is normalized.
    #[default]
    H264,
    /// RFC 7741.
    Vp8,
    /// RFC 9628.
    Vp9,
    /// The RTP payload format of the Alliance for Open Media.
    Av1,
}

impl VideoCodec {
    /// All of them, the most widely supported first.
    pub const ALL: [Self; 4] = [Self::H264, Self::Vp8, Self::Vp9, Self::Av1];

    /// The name in SDP.
    pub fn name(self) -> &'static str {
        match self {
            Self::H264 => "H264",
            Self::Vp8 => "VP8",
            Self::Vp9 => "VP9",
            Self::Av1 => "AV1",
        }
    }

    /// Whether frames may be sent again. The other codecs number their frames, and receivers drop numbers that they
    /// have already seen.
    pub fn is_replayable(self) -> bool {
        self == Self::H264
    }
}

/// Audio codecs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, serde::Serialize)]
pub enum AudioCodec {
    /// RFC 7587: what browsers send.
    #[serde(rename = "opus")]
    Opus,
    /// µ-law, static payload type 0.
    #[serde(rename = "PCMU")]
    Pcmu,
    /// A-law, static payload type 8.
    #[serde(rename = "PCMA")]
    Pcma,
}

impl AudioCodec {
    /// All of them, the best first.
    pub const ALL: [Self; 3] = [Self::Opus, Self::Pcmu, Self::Pcma];

    /// The name in SDP (RFC 3551).
    pub fn name(self) -> &'static str {
        match self {
            Self::Opus => "OPUS",
            Self::Pcmu => "PCMU",
            Self::Pcma => "PCMA",
        }
    }

    /// Looks a codec up by its name in SDP, ignoring case.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.name().eq_ignore_ascii_case(name))
    }

    /// RTP clock rate in Hz; always the same for Opus, whatever it carries (RFC 7587 §4.1).
    pub fn clock(self) -> u32 {
        match self {
            Self::Opus => 48_000,
            Self::Pcmu | Self::Pcma => G711_CLOCK,
        }
    }

    /// The number of channels in SDP.
    pub fn channels(self) -> u8 {
        match self {
            Self::Opus => 2,
            Self::Pcmu | Self::Pcma => 1,
        }
    }

    /// Whether it is G.711, whose payloads may be cut anywhere: one byte per sample.
    pub fn is_g711(self) -> bool {
        self != Self::Opus
    }
}

/// RTP clock rate of video, in Hz (RFC 6184 §8.2.1).
pub const VIDEO_CLOCK: u32 = 90_000;
/// RTP clock rate of G.711, in Hz (RFC 3551 §4.5.14).
pub const G711_CLOCK: u32 = 8_000;

/// A packet as delivered by a source, unmodified.
#[derive(Clone, Debug)]
pub struct RtpIn {
    /// Which track it belongs to.
    pub track: Track,
    /// The RTP timestamp of the source.
    pub timestamp: u32,
    /// The RTP marker bit.
    pub marker: bool,
    /// How many packets are missing just before this one.
    pub lost: u16,
    /// The RTP payload.
    pub payload: Bytes,
}

/// One normalized RTP payload, the same for every viewer.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Which track it belongs to.
    pub track: Track,
    /// Its position in the track, continuous across reconnects. A skipped number is a packet lost upstream, which
    /// no NACK can recover.
    pub index: u64,
    /// RTP timestamp on the stream's own timeline, continuous across reconnects.
    pub timestamp: u32,
    /// Last packet of its frame.
    pub marker: bool,
    /// First packet of a key frame.
    pub key_start: bool,
    /// The payload: at most [`MAX_PAYLOAD`] bytes in our own shape, `frames::MAX_PASSED` as a publisher sent it.
    pub payload: Bytes,
}

/// Packets that are sent together: a frame, or a part of a large one.
#[derive(Debug)]
pub struct Batch {
    /// In sending order.
    pub packets: Vec<Packet>,
    /// This is the cached GOP for a new sink; nothing in it is live.
    pub replay: bool,
    /// For sender reports: maps timestamps to wall-clock time.
    pub clocks: Clocks,
}

/// A shared batch.
pub type SharedBatch = Arc<Batch>;

/// The instant at which a timestamp was sampled.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// On the stream's timeline.
    pub timestamp: u32,
    /// When it was sampled.
    pub at: Instant,
    /// Ticks per second.
    pub rate: u32,
}

/// The clocks of both tracks.
#[derive(Clone, Copy, Default, Debug)]
pub struct Clocks {
    /// Of the video track.
    pub video: Option<Clock>,
    /// Of the audio track.
    pub audio: Option<Clock>,
}

impl Clocks {
    /// The timestamp of `track` at the instant `now`.
    pub fn timestamp_at(&self, track: Track, now: Instant) -> Option<u32> {
        let Clock { timestamp, at, rate } = match track {
            Track::Video => self.video?,
            Track::Audio => self.audio?,
        };
        let ticks = |span: Duration| (span.as_secs_f64() * f64::from(rate)) as u64 as u32;
        Some(match now.checked_duration_since(at) {
            Some(later) => timestamp.wrapping_add(ticks(later)),
            None => timestamp.wrapping_sub(ticks(at.duration_since(now))),
        })
    }
}

/// A jump of the source's timestamps beyond this is a new clock, not a pause.
const MAX_STEP: Duration = Duration::from_secs(10);

/// A pause is never told to be longer than this: RTP timestamps have 32 bits, and receivers take a step of 2^31
/// (6 h 37 min of video) or more for one back in time.
const MAX_GAP: Duration = Duration::from_secs(3600);

/// Puts a source's timestamps on a timeline without jumps: over reconnects, over a camera that sets its clock.
#[derive(Debug)]
pub struct Timeline {
    clock: u32,
    offset: u32,
    last: Option<Last>,
    restarted: bool,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    input: u32,
    output: u32,
    at: Instant,
}

impl Timeline {
    /// A timeline of `clock` ticks per second that begins at `start`, which RFC 3550 §5.1 requires to be random.
    pub fn new(clock: u32, start: u32) -> Self {
        Self { clock, offset: start, last: None, restarted: false }
    }

    /// Ticks per second.
    pub fn clock(&self) -> u32 {
        self.clock
    }

    /// The source has reconnected: its next timestamp is unrelated to the last one.
    pub fn restart(&mut self) {
        self.restarted = true;
    }

    /// Maps a source timestamp that arrived at `now`.
    pub fn map(&mut self, input: u32, now: Instant) -> u32 {
        let Some(last) = self.last else {
            self.restarted = false;
            let output = self.offset;
            self.offset = output.wrapping_sub(input);
            self.last = Some(Last { input, output, at: now });
            return output;
        };
        let step = input.wrapping_sub(last.input) as i32;
        let jump = i64::from(step).unsigned_abs() > MAX_STEP.as_secs() * u64::from(self.clock);
        if self.restarted || jump {
            self.restarted = false;
            let elapsed = now.saturating_duration_since(last.at).min(MAX_GAP).as_secs_f64();
            // At least one tick of 40 ms: two frames must not share a timestamp.
            let ticks = ((elapsed * f64::from(self.clock)) as u64 as u32).max(self.clock / 25);
            self.offset = last.output.wrapping_add(ticks).wrapping_sub(input);
        }
        let output = input.wrapping_add(self.offset);
        self.last = Some(Last { input, output, at: now });
        output
    }

    /// What [`Self::map`] would return for a timestamp close to the last one, without changing any state.
    pub fn peek(&self, input: u32) -> Option<u32> {
        let last = self.last?;
        let step = input.wrapping_sub(last.input) as i32;
        let near = i64::from(step).unsigned_abs() <= MAX_STEP.as_secs() * u64::from(self.clock);
        (near && !self.restarted).then(|| input.wrapping_add(self.offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeline_keeps_steps_and_bridges_jumps() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut timeline = Timeline::new(VIDEO_CLOCK, 1000);
        assert_eq!(timeline.map(5_000_000, at(0)), 1000);
        assert_eq!(timeline.map(5_003_600, at(40)), 4600);
        // The camera sets its clock: the timeline advances by the elapsed time.
        assert_eq!(timeline.map(77, at(80)), 8200);
        assert_eq!(timeline.map(3677, at(120)), 11800);
        // A reconnect two seconds later, with a timestamp that happens to be close.
        timeline.restart();
        assert_eq!(timeline.peek(3700), None);
        assert_eq!(timeline.map(3700, at(2120)), 11800 + 180_000);
        // A pause of five seconds is preserved.
        assert_eq!(timeline.map(3700 + 450_000, at(7120)), 11800 + 180_000 + 450_000);
    }

    #[test]
    fn after_an_outage_of_any_length_frames_are_apart_as_before() {
        for minutes in [1, 59, 61, 6 * 60 + 38, 8 * 60, 13 * 60 + 15, 14 * 60, 20 * 60, 7 * 24 * 60] {
            let start = Instant::now();
            let mut timeline = Timeline::new(VIDEO_CLOCK, 1000);
            let before = timeline.map(5_000, start);
            timeline.restart();
            let back = start + Duration::from_secs(60 * minutes);
            let first = timeline.map(77, back);
            let expected = Duration::from_secs(60 * minutes).min(MAX_GAP).as_secs() as u32 * VIDEO_CLOCK;
            assert_eq!(first.wrapping_sub(before), expected, "{minutes}");
            assert!(first.wrapping_sub(before) as i32 > 0, "{minutes}: it does not look like the past");
            assert_eq!(timeline.map(77 + 3600, back + Duration::from_millis(40)), first + 3600, "{minutes}");
        }
    }

    #[test]
    fn timeline_survives_the_wrap_and_frames_out_of_order() {
        let now = Instant::now();
        let mut timeline = Timeline::new(G711_CLOCK, u32::MAX - 10);
        assert_eq!(timeline.map(u32::MAX - 5, now), u32::MAX - 10);
        assert_eq!(timeline.map(154, now), 149);
        assert_eq!(timeline.map(u32::MAX - 5, now), u32::MAX - 10);
    }

    #[test]
    fn clocks_run_both_ways() {
        let now = Instant::now();
        let clock = Clock { timestamp: 10, at: now, rate: VIDEO_CLOCK };
        let clocks = Clocks { video: Some(clock), audio: None };
        assert_eq!(clocks.timestamp_at(Track::Video, now + Duration::from_secs(1)), Some(90_010));
        assert_eq!(clocks.timestamp_at(Track::Audio, now), None);
        let back = now.checked_sub(Duration::from_secs(1)).unwrap();
        assert_eq!(clocks.timestamp_at(Track::Video, back), Some(10u32.wrapping_sub(90_000)));
    }
}
