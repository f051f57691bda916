//! One viewer's peer connection: ICE, DTLS, SRTP and its two tracks put together. A shard owns it and calls it
//! with everything that arrives and with the time; it writes to the shard's [`Outlet`]. Start at [`Peer::input`].

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rtc::crypto::RTCCryptoProvider;
use tracing::debug;

use super::dtls::{DtlsEvent, DtlsTransport, Identity};
use super::ice::{Credentials, IceAgent, Outgoing};
use super::negotiate::{Agreement, DtlsRole, Fingerprint, SendTrack};
use super::path::Path;
use super::ring::Ring;
use super::rtcp::{self, Feedback};
use super::socket::Outlet;
use super::srtp::Session;
use super::track::OutTrack;
use super::viewer::{Cursor, KeyFrame};
use crate::ids::SessionId;
use crate::streams::packet::{Clocks, Packet, Track};

/// Between two sender reports.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Retransmissions for one viewer between two reports: beyond that its path cannot carry the stream anyway.
const MAX_RESENDS: u32 = 2_000;
/// From NTP's epoch to Unix's, in seconds (RFC 5905 §6).
const NTP_TO_UNIX: u64 = 2_208_988_800;

/// Everything that a shard needs to make a peer.
pub struct NewPeer {
    /// The session's name.
    pub session: SessionId,
    /// The run of the stream that it watches.
    pub stream: u64,
    /// Ours.
    pub local: Credentials,
    /// The viewer's.
    pub remote: Credentials,
    /// Of the viewer's certificate.
    pub fingerprints: Vec<Fingerprint>,
    /// Ours in the DTLS handshake.
    pub role: DtlsRole,
    /// How video is sent.
    pub video: SendTrack,
    /// How sound is sent.
    pub audio: Option<SendTrack>,
    /// Where the viewer says it can be reached.
    pub remotes: Vec<Path>,
    /// `mid` of the section with the candidates.
    pub mid: String,
    /// The session's first entity tag.
    pub etag: String,
}

impl NewPeer {
    /// From an agreement.
    pub fn new(
        agreement: &Agreement,
        session: SessionId,
        stream: u64,
        local: Credentials,
        remotes: Vec<Path>,
    ) -> Self {
        Self {
            session,
            stream,
            local,
            remote: agreement.remote.clone(),
            fingerprints: agreement.fingerprints.clone(),
            role: agreement.role,
            video: agreement.video.clone(),
            audio: agreement.audio.clone(),
            remotes,
            mid: agreement.first_mid().to_owned(),
            etag: new_etag(),
        }
    }
}

/// A fresh entity tag for a state of the session.
pub fn new_etag() -> String {
    format!("\"{:016x}\"", rand::random::<u64>())
}

/// What a shard has to do after calling a peer.
#[derive(Default, Debug, PartialEq, Eq)]
pub struct Effects {
    /// The sender of the datagram is this peer.
    pub authentic: bool,
    /// It has just been connected: it is due the cached GOP.
    pub connected: bool,
    /// It is to be removed.
    pub gone: bool,
    /// Its stream's source should send a key frame.
    pub ask_source: bool,
}

/// See the module.
pub struct Peer {
    /// The session's name.
    pub session: SessionId,
    /// The run of the stream that it watches.
    pub stream: u64,
    /// Changes with every ICE restart.
    pub etag: String,
    /// Its local user fragment.
    pub ufrag: String,
    /// `mid` of the section with the candidates.
    pub mid: String,
    ice: IceAgent,
    remote: Credentials,
    dtls: DtlsTransport,
    srtp: Option<Box<Session>>,
    video: OutTrack,
    audio: Option<OutTrack>,
    cursor: Option<Cursor>,
    next_audio: u64,
    next_report: Instant,
    resends: u32,
    started: Instant,
}

impl Peer {
    /// A peer that waits for the viewer's first check.
    ///
    /// # Errors
    /// DTLS cannot be set up, in words.
    pub fn new(
        new: NewPeer,
        now: Instant,
        identity: &Identity,
        provider: Arc<dyn RTCCryptoProvider>,
    ) -> Result<Self, String> {
        let dtls = DtlsTransport::new(identity, new.fingerprints, new.role, provider.clone())
            .map_err(|error| error.to_string())?;
        let ufrag = new.local.ufrag.clone();
        let mut ice = IceAgent::new(now, new.local, new.remote.clone(), provider);
        new.remotes.into_iter().for_each(|path| ice.add_remote(now, path));
        Ok(Self {
            session: new.session,
            stream: new.stream,
            etag: new.etag,
            ufrag,
            mid: new.mid,
            ice,
            remote: new.remote,
            dtls,
            srtp: None,
            video: OutTrack::new(new.video, rand::random(), rand::random()),
            audio: new.audio.map(|audio| OutTrack::new(audio, rand::random(), rand::random())),
            cursor: None,
            next_audio: 0,
            next_report: now,
            resends: 0,
            started: now,
        })
    }

    /// Whether media flows.
    pub fn is_connected(&self) -> bool {
        self.srtp.is_some()
    }

    /// Whether packets of a replay are held back.
    pub fn is_paced(&self) -> bool {
        self.cursor.as_ref().is_some_and(Cursor::is_paced)
    }

    /// The viewer's ICE credentials, to recognise a restart.
    pub fn remote(&self) -> &Credentials {
        &self.remote
    }

    /// ICE restart.
    pub fn restart(&mut self, now: Instant, local: Credentials, remote: Credentials) {
        self.ufrag = local.ufrag.clone();
        self.remote = remote.clone();
        self.etag = new_etag();
        self.ice.restart(now, local, remote);
    }

    /// Another address of the viewer's.
    pub fn add_remote(&mut self, now: Instant, path: Path) {
        self.ice.add_remote(now, path);
    }

    /// Takes a datagram of any protocol (RFC 7983 tells them apart by the first byte).
    pub fn input(
        &mut self,
        now: Instant,
        path: Path,
        data: &[u8],
        ring: &Ring,
        outlet: &mut Outlet,
    ) -> Effects {
        match data.first() {
            Some(0..=3) => self.stun(now, path, data, outlet),
            Some(20..=63) => self.dtls(now, data, outlet),
            Some(128..=191) => self.rtcp(now, data, ring, outlet),
            _ => Effects::default(),
        }
    }

    fn stun(&mut self, now: Instant, path: Path, data: &[u8], outlet: &mut Outlet) -> Effects {
        let outcome = self.ice.handle(now, path, data);
        for Outgoing { path, data } in &outcome.outgoing {
            outlet.send(path, data);
        }
        let mut effects = Effects { authentic: outcome.authentic, ..Effects::default() };
        if outcome.selected && self.srtp.is_none() {
            if let Err(error) = self.dtls.start(now) {
                debug!(session = ?self.session, "DTLS does not start: {error}");
                effects.gone = true;
            }
            self.flush_dtls(outlet);
        }
        effects
    }

    fn dtls(&mut self, now: Instant, data: &[u8], outlet: &mut Outlet) -> Effects {
        let mut effects = Effects::default();
        match self.dtls.handle(now, data) {
            Ok(Some(DtlsEvent::Connected(session))) => {
                let after_ms = now.duration_since(self.started).as_millis() as u64;
                debug!(session = ?self.session, after_ms, profile = session.profile().name(), "connected");
                self.srtp = Some(session);
                effects.connected = true;
            }
            Ok(Some(DtlsEvent::Closed)) => effects.gone = true,
            Ok(None) => {}
            Err(error) => {
                debug!(session = ?self.session, "DTLS: {error}");
                // Once media flows, a stray record must not end it.
                effects.gone = self.srtp.is_none();
            }
        }
        self.flush_dtls(outlet);
        effects
    }

    fn flush_dtls(&mut self, outlet: &mut Outlet) {
        while let Some(datagram) = self.dtls.outgoing() {
            if let Some(path) = self.ice.selected() {
                outlet.send(&path, &datagram);
            }
        }
    }

    fn rtcp(&mut self, now: Instant, data: &[u8], ring: &Ring, outlet: &mut Outlet) -> Effects {
        let mut effects = Effects::default();
        // RTP from a viewer is not expected: RTCP's packet types stand where its payload type would (RFC 5761 §4).
        if !matches!(data.get(1), Some(192..=223)) {
            return effects;
        }
        let Some(Ok(plain)) = self.srtp.as_mut().map(|srtp| srtp.open_rtcp(data)) else { return effects };
        for feedback in rtcp::parse(&plain) {
            match feedback {
                Feedback::Nack { ssrc, sequence, mask } if ssrc == self.video.ssrc() => {
                    let behind = (0..16).filter(|bit| mask >> bit & 1 == 1).map(|bit| bit + 1);
                    let missing =
                        std::iter::once(0).chain(behind).map(|offset| sequence.wrapping_add(offset));
                    missing.for_each(|sequence| self.resend(sequence, ring, outlet));
                }
                Feedback::KeyFrame { ssrc } if ssrc == self.video.ssrc() => {
                    let wanted = self.cursor.as_mut().map(|cursor| cursor.key_frame_wanted(ring, now));
                    effects.ask_source |= wanted == Some(KeyFrame::AskSource);
                }
                _ => {}
            }
        }
        effects
    }

    fn resend(&mut self, sequence: u16, ring: &Ring, outlet: &mut Outlet) {
        let (Some(srtp), Some(path)) = (&self.srtp, self.ice.selected()) else { return };
        if self.resends >= MAX_RESENDS {
            return;
        }
        let Some(resend) = self.video.find(sequence, ring.end()) else { return };
        let Some(packet) = ring.get(resend.index) else { return };
        self.resends += 1;
        let mut buffer = Vec::with_capacity(1300);
        if self.video.rewrite(&mut buffer, srtp.sealer(), &resend, packet).is_ok() {
            outlet.send(&path, &buffer);
        }
    }

    /// Media begins: with the cached GOP if there is one. `true` if the source should send a key frame.
    pub fn join(&mut self, ring: &Ring, now: Instant) -> bool {
        self.cursor = Some(Cursor::join(ring, now));
        ring.gop_start().is_none()
    }

    /// Sends the video that is due.
    pub fn send_video(&mut self, now: Instant, ring: &Ring, outlet: &mut Outlet, run: &mut Run) {
        let (Some(srtp), Some(cursor), Some(path)) = (&self.srtp, &mut self.cursor, self.ice.selected())
        else {
            return;
        };
        if outlet.is_congested(&path) {
            cursor.wait_for_key(ring);
            return;
        }
        run.begin(outlet.max_segments());
        for index in cursor.due(ring, now) {
            match ring.get(index) {
                Some(packet) => {
                    run.room_for(packet.payload.len(), &path, outlet);
                    let written = self.video.write(&mut run.buffer, srtp.sealer(), packet);
                    run.wrote(written.unwrap_or(0));
                }
                None => self.video.skip(),
            }
        }
        run.flush(&path, outlet);
    }

    /// Sends sound as it comes.
    pub fn send_audio(&mut self, packet: &Packet, outlet: &mut Outlet, run: &mut Run) {
        let (Some(srtp), Some(audio), Some(path)) = (&self.srtp, &mut self.audio, self.ice.selected()) else {
            return;
        };
        if self.next_audio != 0 && packet.index > self.next_audio {
            audio.skip();
        }
        self.next_audio = packet.index + 1;
        run.begin(1);
        let written = audio.write(&mut run.buffer, srtp.sealer(), packet);
        run.wrote(written.unwrap_or(0));
        run.flush(&path, outlet);
    }

    /// Does what time asks for: checks, retransmissions of the handshake, sender reports.
    pub fn poll(&mut self, now: Instant, clocks: &Clocks, outlet: &mut Outlet) -> Effects {
        let mut outgoing = Vec::new();
        let mut gone = !self.ice.poll(now, &mut outgoing);
        for Outgoing { path, data } in &outgoing {
            outlet.send(path, data);
        }
        if self.srtp.is_none() {
            gone |= self.dtls.poll(now).is_err();
            self.flush_dtls(outlet);
        }
        if self.next_report <= now {
            self.next_report = now + REPORT_INTERVAL;
            self.resends = 0;
            self.report(now, clocks, outlet);
        }
        Effects { gone, ..Effects::default() }
    }

    fn report(&mut self, now: Instant, clocks: &Clocks, outlet: &mut Outlet) {
        let (Some(srtp), Some(path)) = (&mut self.srtp, self.ice.selected()) else { return };
        let tracks = [(Track::Video, Some(&self.video)), (Track::Audio, self.audio.as_ref())];
        for (kind, track) in tracks {
            let Some(track) = track.filter(|track| track.counts().0 > 0) else { continue };
            let Some(timestamp) = clocks.timestamp_at(kind, now) else { continue };
            let (packets, octets) = track.counts();
            let report =
                rtcp::sender_report(track.ssrc(), ntp_now(), timestamp, packets, octets, "gatehouse");
            if let Ok(sealed) = srtp.seal_rtcp(&report) {
                outlet.send(&path, &sealed);
            }
        }
    }

    /// Says goodbye.
    pub fn close(&mut self, now: Instant, outlet: &mut Outlet) {
        self.dtls.close(now);
        self.flush_dtls(outlet);
    }
}

fn ntp_now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let fraction = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
    (since.as_secs() + NTP_TO_UNIX) << 32 | fraction
}

/// Packets for one viewer that leave in one system call: equally long, but for a shorter last one.
#[derive(Default)]
pub struct Run {
    buffer: Vec<u8>,
    /// Payload and whole length of the first packet: none behind it may be longer.
    first: Option<(usize, usize)>,
    count: usize,
    max: usize,
    /// A shorter packet was the last.
    closed: bool,
}

/// What one call may carry: the largest UDP datagram, less some.
const MAX_RUN: usize = 63_000;
/// More than headers and tag of any packet.
const OVERHEAD: usize = 64;

impl Run {
    fn begin(&mut self, max: usize) {
        self.buffer.clear();
        (self.first, self.count, self.max, self.closed) = (None, 0, max, false);
    }

    /// Sends what is there if a packet with this payload does not fit behind it. All packets of a track are longer
    /// than their payload by the same, so payloads compare like packets.
    fn room_for(&mut self, payload: usize, path: &Path, outlet: &mut Outlet) {
        let Some((first, _)) = self.first else {
            self.first = Some((payload, 0));
            return;
        };
        let full = self.count >= self.max || self.buffer.len() + payload + OVERHEAD > MAX_RUN;
        if self.closed || payload > first || full {
            self.flush(path, outlet);
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

    fn flush(&mut self, path: &Path, outlet: &mut Outlet) {
        if let Some((_, stride)) = self.first {
            outlet.send_run(path, &self.buffer, stride.max(1));
        }
        self.begin(self.max);
    }
}
