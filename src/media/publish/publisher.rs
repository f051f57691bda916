//! Receives a publisher's media and feeds it into a stream: reordering, retransmission, reports. `rtp_receiver` handles
//! a single track. Takes decrypted packets and returns unencrypted RTCP; it has no socket. Start at [`Publisher::rtp`].

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::media::publish::rtp_receiver::RtpReceiver;
use crate::media::publish::twcc::Twcc;
use crate::media::session::negotiate::ReceiveTrack;
use crate::rtp::ntp;
use crate::rtp::packet::Rtp;
use crate::rtp::rtcp::{self, Feedback};
use crate::streams::packet::Track;
use crate::streams::published::{Fed, Feed};
use crate::streams::source::Arrival;

/// Interval of the receiver reports.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Interval of the transport-wide feedback: the same as libwebrtc's at usual bit rates.
const FEEDBACK_INTERVAL: Duration = Duration::from_millis(50);

/// Minimum time between two key frame requests, so that a lossy path does not end up with key frames only.
const KEY_FRAME_PAUSE: Duration = Duration::from_millis(500);

/// See the module.
pub struct Publisher {
    tracks: Vec<RtpReceiver>,
    twcc: Option<(u8, Twcc)>,
    feed: Feed,
    /// Our SSRC in RTCP.
    sender: u32,
    key_frame_wanted: bool,
    last_key_frame_request: Option<Instant>,
    next_report: Instant,
    next_feedback: Instant,
    ended: bool,
}

impl Publisher {
    /// A publisher that has not sent anything yet. `sender` is our SSRC.
    pub fn new(
        video: Option<ReceiveTrack>,
        audio: Option<ReceiveTrack>,
        feed: Feed,
        now: Instant,
        sender: u32,
    ) -> Self {
        let transport_id = video.iter().chain(&audio).find_map(|track| track.transport_cc);
        let tracks = [(Track::Video, video), (Track::Audio, audio)];
        let tracks = tracks.into_iter().filter_map(|(kind, track)| Some(RtpReceiver::new(kind, track?)));
        Self {
            tracks: tracks.collect(),
            twcc: transport_id.map(|id| (id, Twcc::new(now))),
            feed,
            sender,
            key_frame_wanted: false,
            last_key_frame_request: None,
            next_report: now + REPORT_INTERVAL,
            next_feedback: now,
            ended: false,
        }
    }

    /// Whether the stream no longer accepts packets.
    pub fn has_ended(&self) -> bool {
        self.ended || self.feed.is_closed()
    }

    /// Requests a key frame for the stream's viewers.
    pub fn want_key_frame(&mut self) {
        self.key_frame_wanted = true;
    }

    /// Handles a decrypted RTP packet.
    pub fn rtp(&mut self, now: Instant, plain: &Bytes) {
        let transport_id = self.twcc.as_ref().map(|(id, _)| *id);
        let Some(rtp) = Rtp::parse(plain, transport_id) else { return };
        if let (Some((_, twcc)), Some(sequence)) = (&mut self.twcc, rtp.transport_sequence) {
            twcc.record(now, sequence);
        }
        if let Some(track) = self.tracks.iter_mut().find(|track| track.takes(rtp.payload_type)) {
            track.push(now, rtp);
        }
        self.deliver(now);
    }

    fn deliver(&mut self, now: Instant) {
        for track in &mut self.tracks {
            for packet in track.ripe(now) {
                self.key_frame_wanted |= packet.lost > 0 && packet.track == Track::Video;
                // If the stream's queue is full, the gap is passed on with the next packet.
                match self.feed.send(Arrival::Rtp(packet)) {
                    Fed::Taken => {}
                    Fed::Full => track.dropped(),
                    Fed::Ended => self.ended = true,
                }
            }
        }
    }

    /// Handles a decrypted RTCP compound; only its sender reports matter.
    pub fn rtcp(&mut self, now: Instant, plain: &[u8]) {
        for feedback in rtcp::parse(plain) {
            let Feedback::Sender { ssrc, ntp, timestamp } = feedback else { continue };
            let Some(track) = self.tracks.iter_mut().find(|track| track.ssrc() == Some(ssrc)) else {
                continue;
            };
            track.sender_report(now, ntp);
            let at = ntp::to_system_time(ntp);
            let clock = Arrival::Clock { track: track.kind(), timestamp, at, received: now };
            self.ended |= self.feed.send(clock) == Fed::Ended;
        }
    }

    /// The RTCP that is due: an unencrypted full compound packet, not reduced-size.
    pub fn poll(&mut self, now: Instant) -> Option<Vec<u8>> {
        self.deliver(now);
        let mut blocks = Vec::new();
        if now >= self.next_report {
            self.next_report = now + REPORT_INTERVAL;
            blocks = self.tracks.iter_mut().filter_map(|track| track.report(now)).collect();
        }
        let mut feedback = Vec::new();
        if now >= self.next_feedback {
            self.next_feedback = now + FEEDBACK_INTERVAL;
            let media = self.tracks.iter().find_map(RtpReceiver::ssrc).unwrap_or_default();
            let sender = self.sender;
            let twcc = self.twcc.as_mut();
            feedback.extend(twcc.and_then(|(_, twcc)| twcc.feedback(sender, media)).unwrap_or_default());
        }
        for track in &mut self.tracks {
            let missing = track.nack(now);
            let Some(ssrc) = track.ssrc() else { continue };
            if !missing.is_empty() {
                feedback.extend(rtcp::nack(self.sender, ssrc, &missing));
            }
            let paused = self.last_key_frame_request.is_none_or(|at| now >= at + KEY_FRAME_PAUSE);
            if track.kind() == Track::Video && paused && std::mem::take(&mut self.key_frame_wanted) {
                self.last_key_frame_request = Some(now);
                feedback.extend(rtcp::picture_loss(self.sender, ssrc));
            }
        }
        if blocks.is_empty() && feedback.is_empty() {
            return None;
        }
        let mut out = rtcp::receiver_report(self.sender, &blocks, "gatehouse");
        out.extend(feedback);
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::streams::packet::{AudioCodec, RtpIn, VideoCodec};
    use crate::streams::published::{KeyFrames, PublishedConnection};
    use std::sync::Arc;

    struct Nobody;

    impl KeyFrames for Nobody {
        fn request(&self) {}
    }

    fn packet(payload_type: u8, sequence: u16, ssrc: u32, payload: &[u8]) -> Bytes {
        let mut data = vec![0x80, payload_type];
        data.extend_from_slice(&sequence.to_be_bytes());
        data.extend_from_slice(&[0, 0, 0, 1]);
        data.extend_from_slice(&ssrc.to_be_bytes());
        data.extend_from_slice(payload);
        data.into()
    }

    fn track(payload_type: u8, rtx: Option<u8>) -> ReceiveTrack {
        ReceiveTrack {
            payload_type,
            rtx_payload_type: rtx,
            nack: rtx.is_some(),
            transport_cc: None,
            clock: 90_000,
        }
    }

    fn next(session: &mut PublishedConnection) -> Option<RtpIn> {
        let arrival = futures::FutureExt::now_or_never(session.next())?.ok()?;
        match arrival {
            Arrival::Rtp(packet) => Some(packet),
            Arrival::Clock { .. } => None,
        }
    }

    #[test]
    fn what_is_missing_is_asked_for_and_put_in_its_place() {
        let now = Instant::now();
        let (feed, mut session) =
            PublishedConnection::new(Some(VideoCodec::H264), Some(AudioCodec::Opus), Arc::new(Nobody));
        let mut publisher = Publisher::new(Some(track(96, Some(97))), Some(track(111, None)), feed, now, 1);
        publisher.rtp(now, &packet(96, 10, 7, b"a"));
        publisher.rtp(now, &packet(96, 12, 7, b"c"));
        publisher.rtp(now, &packet(111, 5, 8, b"sound"));
        assert_eq!(next(&mut session).unwrap().payload, "a");
        assert_eq!(next(&mut session).unwrap().track, Track::Audio);
        assert!(next(&mut session).is_none());
        let asked = publisher.poll(now).unwrap();
        assert_eq!(rtcp::parse(&asked), [Feedback::Nack { ssrc: 7, sequence: 11, mask: 0 }]);
        // Its retransmission, prefixed with the original sequence number (RFC 4588 §4), then one with padding only.
        publisher.rtp(now, &packet(97, 900, 9, &[0, 11, b'b']));
        publisher.rtp(now, &packet(97, 901, 9, &[]));
        let found: Vec<_> = std::iter::from_fn(|| next(&mut session)).collect();
        assert_eq!(
            found.iter().map(|packet| (packet.lost, &packet.payload[..])).collect::<Vec<_>>(),
            [(0, &b"b"[..]), (0, b"c")]
        );
        assert!(publisher.poll(now).is_none());
    }

    #[test]
    fn what_does_not_come_is_a_gap_and_a_key_frame_is_asked_for() {
        let now = Instant::now();
        let (feed, mut session) = PublishedConnection::new(Some(VideoCodec::Vp8), None, Arc::new(Nobody));
        let mut publisher = Publisher::new(Some(track(96, Some(97))), None, feed, now, 1);
        publisher.rtp(now, &packet(96, 1, 7, b"a"));
        publisher.rtp(now, &packet(96, 4, 7, b"d"));
        let later = now + Duration::from_millis(300);
        let asked = rtcp::parse(&publisher.poll(later).unwrap());
        assert!(asked.contains(&Feedback::KeyFrame { ssrc: 7 }), "{asked:?}");
        next(&mut session);
        assert_eq!(next(&mut session).unwrap().lost, 2);
        let later = now + Duration::from_secs(2);
        let said = rtcp::parse(&publisher.poll(later).unwrap()).into_iter();
        let reports: Vec<_> = said.filter(|said| matches!(said, Feedback::Report { .. })).collect();
        assert!(matches!(reports[..], [Feedback::Report { ssrc: 7, fraction_lost: 128, .. }]), "{reports:?}");
        drop(session);
        assert!(publisher.has_ended());
    }

    #[test]
    fn key_frames_are_asked_for_twice_a_second_at_most() {
        let start = Instant::now();
        let (feed, _session) = PublishedConnection::new(Some(VideoCodec::Vp8), None, Arc::new(Nobody));
        let mut publisher = Publisher::new(Some(track(96, None)), None, feed, start, 1);
        let mut asked = 0;
        for tick in 0..150u16 {
            let now = start + Duration::from_millis(20) * u32::from(tick);
            publisher.rtp(now, &packet(96, tick, 7, b"a"));
            publisher.want_key_frame();
            let said = publisher.poll(now).map(|said| rtcp::parse(&said)).unwrap_or_default();
            asked += said.iter().filter(|said| matches!(said, Feedback::KeyFrame { .. })).count();
        }
        assert_eq!(asked, 6, "in three seconds");
    }

    #[test]
    fn a_sequence_that_starts_over_on_one_ssrc_goes_on() {
        let now = Instant::now();
        let (feed, mut session) = PublishedConnection::new(Some(VideoCodec::Vp8), None, Arc::new(Nobody));
        let mut publisher = Publisher::new(Some(track(96, Some(97))), None, feed, now, 1);
        for sequence in [50_000, 20_000, 20_001, 20_002] {
            publisher.rtp(now, &packet(96, sequence, 7, &sequence.to_be_bytes()));
        }
        let found: Vec<_> = std::iter::from_fn(|| next(&mut session)).map(|packet| packet.lost).collect();
        assert_eq!(found, [0, 1, 0]);
        let report = rtcp::parse(&publisher.poll(now + Duration::from_secs(2)).unwrap());
        assert!(matches!(report[0], Feedback::Report { fraction_lost: 0, .. }), "{report:?}");
    }

    #[test]
    fn a_new_ssrc_resets_the_track() {
        let now = Instant::now();
        let (feed, mut session) = PublishedConnection::new(Some(VideoCodec::Vp8), None, Arc::new(Nobody));
        let mut publisher = Publisher::new(Some(track(96, None)), None, feed, now, 1);
        publisher.rtp(now, &packet(96, 1, 7, b"a"));
        publisher.rtp(now, &packet(96, 60_000, 8, b"b"));
        next(&mut session);
        assert_eq!(next(&mut session).unwrap().payload, "b");
    }
}
