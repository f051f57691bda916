//! Measures a video track as it arrives: frame rate, bitrate, GOP length. Pure: time is an argument. See [`Meter`].

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::status::Measured;

/// Averaging window.
const WINDOW: Duration = Duration::from_secs(4);
/// Bounds memory for absurd frame rates.
const MAX_FRAMES: usize = 2_000;

/// See the module documentation.
#[derive(Default)]
pub struct Meter {
    frames: VecDeque<(Instant, usize)>,
    timestamp: Option<u32>,
    frames_since_key: u32,
    last_key: Option<Instant>,
    measured: Measured,
}

impl Meter {
    /// Counts one packet of the source; `bytes` is its payload size.
    pub fn packet(&mut self, now: Instant, timestamp: u32, bytes: usize, lost: u16) {
        self.measured.lost_packets += u64::from(lost);
        self.measured.largest_payload = self.measured.largest_payload.max(bytes);
        if self.timestamp.replace(timestamp) == Some(timestamp)
            && let Some(frame) = self.frames.back_mut()
        {
            frame.1 += bytes;
            return;
        }
        self.frames.push_back((now, bytes));
        self.frames_since_key += 1;
        if self.frames.len() > MAX_FRAMES {
            self.frames.pop_front();
        }
    }

    /// A key frame has begun.
    pub fn key_frame(&mut self, now: Instant) {
        if let Some(last) = self.last_key.replace(now) {
            self.measured.gop_frames = Some(self.frames_since_key);
            self.measured.gop_ms = u32::try_from(now.saturating_duration_since(last).as_millis()).ok();
        }
        self.frames_since_key = 0;
    }

    /// The figures as of now.
    pub fn measure(&mut self, now: Instant) -> Measured {
        while self.frames.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > WINDOW) {
            self.frames.pop_front();
        }
        let span = self.frames.front().map(|(first, _)| now.saturating_duration_since(*first).as_secs_f64());
        // Over less than half a second a rate is meaningless.
        if let Some(span) = span.filter(|span| *span > 0.5) {
            let bytes: usize = self.frames.iter().map(|(_, bytes)| bytes).sum();
            self.measured.fps = (self.frames.len() as f64 / span * 10.0).round() / 10.0;
            self.measured.bitrate = (bytes as f64 * 8.0 / span) as u64;
        }
        self.measured
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_a_steady_camera() {
        let start = Instant::now();
        let mut meter = Meter::default();
        for frame in 0..250u32 {
            let now = start + Duration::from_millis(40) * frame;
            for _ in 0..4 {
                meter.packet(now, frame * 3600, 1250, 0);
            }
            if frame % 50 == 0 {
                meter.key_frame(now);
            }
        }
        let measured = meter.measure(start + Duration::from_millis(9990));
        assert!((measured.fps - 25.0).abs() < 0.5, "{measured:?}");
        assert!((measured.bitrate as f64 - 1e6).abs() < 3e4, "{measured:?}");
        assert_eq!((measured.gop_frames, measured.gop_ms), (Some(50), Some(2000)));
    }

    #[test]
    fn silence_counts_down_to_nothing() {
        let start = Instant::now();
        let mut meter = Meter::default();
        meter.packet(start, 0, 1000, 3);
        assert_eq!(meter.measure(start).lost_packets, 3);
        meter.measure(start + Duration::from_secs(60));
        assert!(meter.frames.is_empty());
    }
}
