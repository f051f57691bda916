//! What arrives from the source: packets are shaped, put on the stream's timeline and passed on to the hub. Start at
//! [`Task::packet`].

use std::time::{Duration, Instant, SystemTime};

use tracing::{info, warn};

use super::{Phase, Task};
use crate::streams::hub::Sound;
use crate::streams::packet::{Clock, RtpIn, Track, VIDEO_CLOCK};

impl Task {
    /// Passes a packet on.
    pub(super) fn packet(&mut self, packet: &RtpIn, now: Instant) {
        #[cfg(debug_assertions)]
        assert!(!std::mem::take(&mut self.sinks), "a test has asked for this panic");
        let Phase::Live(live) = &mut self.phase else { return };
        live.heard_of(packet.track, now);
        match packet.track {
            Track::Audio => {
                let Some(codec) = live.connection.offered().audio_codec else { return };
                live.heard = true;
                let timestamp = self.audio.map(packet.timestamp, now);
                if !self.hub.has_clock(Track::Audio) {
                    self.hub.set_clock(Track::Audio, Clock { timestamp, at: now, rate: codec.clock() });
                }
                let (marker, lost, payload) = (packet.marker, packet.lost, &packet.payload);
                self.hub.audio(now, codec, &Sound { timestamp, marker, lost, payload });
                self.announce_sound(now);
            }
            Track::Video => self.video_packet(packet, now),
        }
    }

    /// An audio-only stream is live with its first packet; one whose camera is off, after a while.
    pub(super) fn announce_sound(&mut self, now: Instant) {
        let Phase::Live(live) = &mut self.phase else { return };
        if !live.announced && live.is_sound_alone(now) {
            live.announced = true;
            self.publish_live(now);
        }
    }

    fn video_packet(&mut self, packet: &RtpIn, now: Instant) {
        self.video_paused = false;
        let Phase::Live(live) = &mut self.phase else { return };
        let Some(framer) = &mut live.framer else { return };
        let sent = live.pace.timestamp(now, packet.timestamp, packet.marker);
        let by_arrival = live.pace.is_by_arrival();
        live.meter.packet(now, sent, packet.payload.len(), packet.lost);
        let mut shaped = std::mem::take(&mut self.shaped);
        framer.push(sent, packet.marker, packet.lost, &packet.payload, &mut shaped);
        let mut key = false;
        for packet in shaped.drain(..) {
            key |= packet.key_start;
            let timestamp = self.video.map(packet.timestamp, now);
            if by_arrival || !self.hub.has_clock(Track::Video) {
                self.hub.set_clock(Track::Video, Clock { timestamp, at: now, rate: VIDEO_CLOCK });
            }
            self.hub.video(now, timestamp, packet);
        }
        self.shaped = shaped;
        live.count(now, sent, key);
        let problem = live.problem();
        let announce = !live.announced && live.is_known();
        let news = live.announced && problem != self.status.borrow().problem;
        if announce {
            live.announced = true;
            let after_ms = now.duration_since(live.started).as_millis() as u64;
            let outage_s = self.outage.ended(now).map(|lasted| lasted.as_secs());
            info!(stream = %self.label, after_ms, outage_s, "live");
        }
        if announce || news {
            if let Some(problem) = &problem {
                warn!(stream = %self.label, code = problem.code, "cannot be shown: {}", problem.message);
                self.hub.end();
            }
            self.publish_live(now);
        }
    }

    /// Maps the camera's clock to ours, anchored at its first sender report, so that audio and video stay in sync.
    pub(super) fn clock(&mut self, track: Track, timestamp: u32, at: SystemTime, received: Instant) {
        let Phase::Live(live) = &mut self.phase else { return };
        if track == Track::Video && live.pace.is_by_arrival() {
            return;
        }
        let (wall, instant) = *live.wall_offset.get_or_insert((at, received));
        let sampled = match at.duration_since(wall) {
            Ok(later) => instant.checked_add(later),
            Err(earlier) => instant.checked_sub(earlier.duration()),
        };
        let timeline = match track {
            Track::Video => &self.video,
            Track::Audio => &self.audio,
        };
        // A clock that has moved too far from ours (set by hand, by NTP) is re-anchored.
        let near = |sampled: &Instant| {
            let apart =
                received.saturating_duration_since(*sampled) + sampled.saturating_duration_since(received);
            apart < Duration::from_secs(10)
        };
        match (sampled.filter(near), timeline.peek(timestamp)) {
            (Some(at), Some(timestamp)) => {
                self.hub.set_clock(track, Clock { timestamp, at, rate: timeline.clock() });
            }
            (None, _) => live.wall_offset = None,
            _ => {}
        }
    }
}
