//! What a viewer is sent: its two tracks, retransmissions, sender reports. The peer supplies the destination and the
//! keys as a [`SecurePath`]. Start at [`Subscriber::send_video`].

use std::time::{Duration, Instant, SystemTime};

use crate::media::session::negotiate::SendTrack;
use crate::media::subscribe::cursor::{Cursor, KeyFrame, Replays};
use crate::media::subscribe::ring::Ring;
use crate::media::subscribe::track::OutTrack;
use crate::media::transport::path::Path;
use crate::media::transport::socket::Egress;
use crate::media::transport::srtp::SrtpContext;
use crate::rtp::ntp;
use crate::rtp::rtcp::{self, Feedback};
use crate::streams::packet::{AudioCodec, Clocks, Packet, Track};

/// Interval of the sender reports.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Retransmissions for one viewer between two reports: if more are lost, its path cannot carry the stream anyway.
const MAX_RESENDS: u32 = 2_000;

/// The keys and the selected path of a connected peer.
pub struct SecurePath<'a> {
    /// The keys.
    pub srtp: &'a mut SrtpContext,
    /// The path.
    pub path: Path,
}

/// A layer that a viewer is switched to.
pub struct LayerView<'a> {
    /// The number of its generation.
    pub stream: u64,
    /// Its packets.
    pub ring: &'a Ring,
    /// Its clocks.
    pub clocks: Clocks,
    /// The codec of its sound.
    pub sound: Option<AudioCodec>,
}

/// See the module.
pub struct Subscriber {
    /// The number of the stream generation that it watches.
    pub stream: u64,
    video: Option<OutTrack>,
    audio: Option<OutTrack>,
    replays: Replays,
    /// The negotiated codec of the sound, and whether the layer that is sent has it.
    sound: Option<AudioCodec>,
    hears: bool,
    cursor: Option<Cursor>,
    next_audio: u64,
    next_report: Instant,
    resends: u32,
}

impl Subscriber {
    /// A subscriber that has not been sent anything yet.
    pub fn new(
        stream: u64,
        video: Option<SendTrack>,
        audio: Option<(SendTrack, AudioCodec)>,
        replays: Replays,
        now: Instant,
    ) -> Self {
        let (audio, sound) = audio.unzip();
        let track = |track| OutTrack::new(track, rand::random(), rand::random());
        Self {
            stream,
            video: video.map(track),
            audio: audio.map(track),
            replays,
            sound,
            hears: true,
            cursor: None,
            next_audio: 0,
            next_report: now,
            resends: 0,
        }
    }

    /// Whether packets of a replay are being paced.
    pub fn is_paced(&self) -> bool {
        self.cursor.as_ref().is_some_and(Cursor::is_paced)
    }

    /// Handles a decrypted RTCP compound. `true` if the source should send a key frame.
    pub fn rtcp(
        &mut self,
        now: Instant,
        plain: &[u8],
        ring: &Ring,
        secure: &SecurePath<'_>,
        egress: &mut Egress,
    ) -> bool {
        let Some(ours) = self.video.as_ref().map(OutTrack::ssrc) else { return false };
        let mut ask_source = false;
        for feedback in rtcp::parse(plain) {
            match feedback {
                Feedback::Nack { ssrc, sequence, mask } if ssrc == ours => {
                    let behind = (0..16).filter(|bit| mask >> bit & 1 == 1).map(|bit| bit + 1);
                    let missing =
                        std::iter::once(0).chain(behind).map(|offset| sequence.wrapping_add(offset));
                    missing.for_each(|sequence| self.resend(sequence, ring, secure, egress));
                }
                Feedback::KeyFrame { ssrc } if ssrc == ours => {
                    let wanted = self.cursor.as_mut().map(|cursor| cursor.key_frame_wanted(ring, now));
                    ask_source |= wanted == Some(KeyFrame::AskSource);
                }
                _ => {}
            }
        }
        ask_source
    }

    fn resend(&mut self, sequence: u16, ring: &Ring, secure: &SecurePath<'_>, egress: &mut Egress) {
        let Some(video) = self.video.as_mut().filter(|_| self.resends < MAX_RESENDS) else { return };
        let Some(resend) = video.find(sequence, ring.end()) else { return };
        let Some(packet) = ring.get(resend.index) else { return };
        self.resends += 1;
        let mut buffer = Vec::with_capacity(1300);
        if video.rewrite(&mut buffer, secure.srtp.protector(), &resend, packet).is_ok() {
            egress.send(&secure.path, &buffer);
        }
    }

    /// Starts sending, with the cached GOP if it is usable. `true` if the source should send a key frame.
    pub fn join(&mut self, ring: &Ring, now: Instant) -> bool {
        if self.video.is_none() {
            return false;
        }
        let cursor = Cursor::join(ring, now, self.replays);
        let waits = cursor.is_waiting();
        self.cursor = Some(cursor);
        waits
    }

    /// Goes on with another layer, from its newest key frame. What follows keeps to the timeline of what was sent.
    pub fn switch(&mut self, now: Instant, from: &Clocks, to: &LayerView<'_>) {
        self.stream = to.stream;
        self.hears = self.sound == to.sound;
        self.next_audio = 0;
        let ticks = |kind| match (from.timestamp_at(kind, now), to.clocks.timestamp_at(kind, now)) {
            (Some(old), Some(new)) => old.wrapping_sub(new),
            _ => 0,
        };
        if let Some(video) = &mut self.video {
            video.splice(ticks(Track::Video));
        }
        if let Some(audio) = &mut self.audio {
            audio.shift(ticks(Track::Audio));
        }
        if self.cursor.is_some() {
            self.cursor = Some(Cursor::join(to.ring, now, self.replays));
        }
    }

    /// Sends the video packets that are due.
    pub fn send_video(
        &mut self,
        now: Instant,
        ring: &Ring,
        secure: &SecurePath<'_>,
        egress: &mut Egress,
        gso: &mut GsoBatch,
    ) {
        let (Some(video), Some(cursor)) = (&mut self.video, &mut self.cursor) else { return };
        let path = &secure.path;
        if egress.is_congested(path) {
            cursor.wait_for_key(ring);
            return;
        }
        gso.begin(egress.max_segments());
        for index in cursor.due(ring, now) {
            match ring.get(index) {
                Some(packet) => {
                    gso.room_for(packet.payload.len(), path, egress);
                    let written = video.write(&mut gso.buffer, secure.srtp.protector(), packet);
                    gso.wrote(written.unwrap_or(0));
                }
                None => video.skip(),
            }
        }
        gso.flush(path, egress);
    }

    /// Sends an audio packet without delay.
    pub fn send_audio(
        &mut self,
        packet: &Packet,
        secure: &SecurePath<'_>,
        egress: &mut Egress,
        gso: &mut GsoBatch,
    ) {
        let Some(audio) = self.audio.as_mut().filter(|_| self.hears) else { return };
        if self.next_audio != 0 && packet.index > self.next_audio {
            audio.skip();
        }
        self.next_audio = packet.index + 1;
        gso.begin(1);
        let written = audio.write(&mut gso.buffer, secure.srtp.protector(), packet);
        gso.wrote(written.unwrap_or(0));
        gso.flush(&secure.path, egress);
    }

    /// Sends the reports that are due.
    pub fn poll(&mut self, now: Instant, clocks: &Clocks, secure: &mut SecurePath<'_>, egress: &mut Egress) {
        if self.next_report > now {
            return;
        }
        self.next_report = now + REPORT_INTERVAL;
        self.resends = 0;
        for (kind, track) in [(Track::Video, self.video.as_ref()), (Track::Audio, self.audio.as_ref())] {
            let Some(track) = track.filter(|track| track.counts().0 > 0) else { continue };
            let Some(timestamp) = clocks.timestamp_at(kind, now) else { continue };
            let (packets, octets) = track.counts();
            let report = rtcp::sender_report(
                track.ssrc(),
                ntp::from_system_time(SystemTime::now()),
                track.shifted(timestamp),
                packets,
                octets,
                "gatehouse",
            );
            if let Ok(sealed) = secure.srtp.protect_rtcp(&report) {
                egress.send(&secure.path, &sealed);
            }
        }
    }
}

/// Packets for one viewer that are sent with one system call: all of equal length, the last one may be shorter.
#[derive(Default)]
pub struct GsoBatch {
    buffer: Vec<u8>,
    /// Payload length and total length of the first packet: none after it may be longer.
    first: Option<(usize, usize)>,
    count: usize,
    max: usize,
    /// A shorter packet was added, so none may follow.
    closed: bool,
}

/// Bytes per call: the largest UDP datagram minus a margin.
const MAX_RUN: usize = 63_000;
/// Upper bound for the headers and the tag of a packet.
const OVERHEAD: usize = 64;

impl GsoBatch {
    fn begin(&mut self, max: usize) {
        self.buffer.clear();
        (self.first, self.count, self.max, self.closed) = (None, 0, max, false);
    }

    /// Sends the batch if a packet with this payload cannot be added to it. The overhead is the same for all packets of
    /// a track, so comparing payload lengths is enough.
    fn room_for(&mut self, payload: usize, path: &Path, egress: &mut Egress) {
        let Some((first, _)) = self.first else {
            self.first = Some((payload, 0));
            return;
        };
        let full = self.count >= self.max || self.buffer.len() + payload + OVERHEAD > MAX_RUN;
        if self.closed || payload > first || full {
            self.flush(path, egress);
            self.first = Some((payload, 0));
        } else {
            self.closed = payload < first;
        }
    }

    fn wrote(&mut self, bytes: usize) {
        self.count += 1;
        match &mut self.first {
            Some((_, length)) if *length == 0 => *length = bytes,
            Some(_) => {}
            None => self.first = Some((0, bytes)),
        }
    }

    fn flush(&mut self, path: &Path, egress: &mut Egress) {
        if let Some((_, stride)) = self.first {
            egress.send_gso(path, &self.buffer, stride.max(1));
        }
        self.begin(self.max);
    }
}
