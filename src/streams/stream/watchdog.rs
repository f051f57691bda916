//! What is looked at once a second: whether the source still delivers, whether a key frame has come, and the figures of
//! the status. Start at [`Task::tick`].

use std::time::{Duration, Instant, SystemTime};

use tracing::debug;

use super::{Phase, Task};
use crate::streams::frames::Framer;
use crate::streams::packet::Track;
use crate::streams::source::SourceError;
use crate::streams::status::{Reason, State};

/// For the first key frame: cameras with "smart codecs" send one in up to 40 s.
const KEY_FRAME_LIMIT: Duration = Duration::from_secs(60);
/// A live source that sends no packet for this long is considered dead.
const STALL: Duration = Duration::from_secs(5);

impl Task {
    /// Once a second while the source is connected.
    pub(super) fn tick(&mut self, now: Instant) {
        if self.hub.has_sinks() {
            self.watched = now;
        }
        if !self.budget.report(self.number, self.hub.cached(), self.watched) {
            self.hub.forget_video();
        }
        let Phase::Live(live) = &mut self.phase else { return };
        if live.key_wanted {
            live.connection.request_key_frame();
        }
        let Phase::Live(live) = &self.phase else { return };
        let silent = live.silent_for(Track::Video, now);
        if self.is_published() {
            // A publisher that has muted all sends nothing, and is there all the same: its connection tells.
            if silent.is_some_and(|silent| silent >= STALL) && !self.video_paused {
                debug!(stream = %self.label, "the publisher's picture is paused");
                self.video_paused = true;
                // Whoever joins now must not be shown what was long ago.
                self.hub.forget_video();
            }
            if live.announced {
                self.publish_live(now);
            }
            return self.announce_sound(now);
        }
        // Each track has its own watchdog: sound does not keep a picture alive that has frozen.
        let patience = if live.announced { live.patience(STALL) } else { 2 * STALL };
        if let Some(silent) = silent.filter(|silent| *silent >= patience) {
            self.over_udp ^= live.is_mute();
            let seconds = silent.as_secs();
            let error = SourceError::soon("camera_silent", format!("no picture for {seconds} s"));
            return self.fail(&error, now);
        }
        if live.silent_for(Track::Audio, now).is_some_and(|silent| silent >= STALL) && live.framer.is_none() {
            let error = SourceError::soon("camera_silent", "no sound for 5 s, and it has no picture");
            return self.fail(&error, now);
        }
        if live.announced {
            self.publish_live(now);
            return;
        }
        let waited = now.duration_since(live.started);
        let findings = live.framer.as_ref().and_then(Framer::findings);
        let damaged = findings.and_then(|findings| findings.sps_error.clone());
        if let Some(error) = damaged.filter(|_| waited >= 3 * STALL) {
            let text = format!("the camera's SPS is damaged: {error}");
            self.fail(&SourceError::soon("camera_h264", text), now);
        } else if waited >= KEY_FRAME_LIMIT {
            let Reason { code, message } = live.without_key_frame(waited);
            self.fail(&SourceError::soon(code, message), now);
        } else if waited >= STALL {
            let reason = live.without_key_frame(waited);
            self.set_state(State::Connecting, Some(reason), None);
        }
    }

    /// Publishes that it is live, with the current figures.
    pub(super) fn publish_live(&mut self, now: Instant) {
        let Phase::Live(live) = &mut self.phase else { return };
        let (video, problem, notes) = (live.video_status(now), live.problem(), live.notes());
        let silent = live.silent_for(Track::Audio, now).is_some_and(|silent| silent >= STALL);
        self.modify(|status| {
            if status.state != State::Live {
                status.since = Some(SystemTime::now());
            }
            status.state = State::Live;
            status.reason = None;
            status.retry_at = None;
            status.video = video;
            if let Some(audio) = &mut status.audio {
                audio.silent = silent;
            }
            status.problem = problem;
            status.notes = notes;
        });
    }
}
