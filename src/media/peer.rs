//! One peer connection: ICE, DTLS and SRTP combined with either a subscriber (`subscribe::subscriber`) or a publisher
//! (`publish::publisher`). A shard owns it, passes it every datagram and polls it regularly; it writes to the shard's
//! [`Egress`]. Start at [`Peer::input`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rtc::crypto::RTCCryptoProvider;
use tracing::debug;

use crate::ids::SessionId;
use crate::media::publish::publisher::Publisher;
use crate::media::session::negotiate::{Agreement, DtlsRole, Fingerprint};
use crate::media::subscribe::ring::Ring;
use crate::media::subscribe::subscriber::{GsoBatch, LayerView, SecurePath, Subscriber};
use crate::media::transport::dtls::{DtlsEvent, DtlsTransport, Identity};
use crate::media::transport::ice::{Credentials, IceAgent, Outgoing, Shared, Tag};
use crate::media::transport::path::Path;
use crate::media::transport::socket::Egress;
use crate::media::transport::srtp::SrtpContext;
use crate::streams::packet::{Clocks, Packet};

/// A peer without SRTP keys by then is removed, so that unfinished handshakes cannot occupy session slots.
const CONNECT_LIMIT: Duration = Duration::from_secs(15);
/// DTLS datagrams sent to an unproven address: one, our ClientHello, so that the handshake starts a round trip
/// earlier. It would be retransmitted after a second, by which time a real peer has long proven its address.
const MAX_UNPROVEN: u32 = 1;
/// DTLS datagrams that wait until an address is proven: two flights.
const MAX_HELD: usize = 8;

/// Whether a peer watches or publishes.
pub enum Media {
    /// It watches.
    Subscriber(Box<Subscriber>),
    /// It publishes.
    Publisher(Box<Publisher>),
}

/// Everything that a shard needs to create a peer.
pub struct NewPeer {
    /// The session's id.
    pub session: SessionId,
    /// Whether it watches or publishes.
    pub media: Media,
    /// Our ICE credentials.
    pub local: Credentials,
    /// The remote side's ICE credentials.
    pub remote: Credentials,
    /// Fingerprints of the remote certificate; one of them must match.
    pub fingerprints: Vec<Fingerprint>,
    /// Our role in the DTLS handshake.
    pub role: DtlsRole,
    /// The remote side's candidates.
    pub remotes: Vec<Path>,
    /// `mid` of the section with the candidates.
    pub mid: String,
    /// The session's first entity tag.
    pub etag: String,
}

impl NewPeer {
    /// Takes the remote side's parameters from an agreement.
    pub fn new<T>(
        agreement: &Agreement<T>,
        session: SessionId,
        media: Media,
        local: Credentials,
        remotes: Vec<Path>,
    ) -> Self {
        Self {
            session,
            media,
            local,
            remote: agreement.remote.clone(),
            fingerprints: agreement.fingerprints.clone(),
            role: agreement.role,
            remotes,
            mid: agreement.first_mid().to_owned(),
            etag: new_etag(),
        }
    }
}

/// A new entity tag; the session gets one for each ICE generation.
pub fn new_etag() -> String {
    format!("\"{:016x}\"", rand::random::<u64>())
}

/// What a shard must do after calling a peer.
#[derive(Default, Debug, PartialEq, Eq)]
pub struct Effects {
    /// The datagram's MESSAGE-INTEGRITY is valid.
    pub authentic: bool,
    /// Its source address is proven to be this peer's: one of our checks was answered from there.
    pub proven: bool,
    /// A proven address of this peer that was evicted.
    pub evicted: Option<Path>,
    /// The peer has just connected and should be sent the cached GOP.
    pub connected: bool,
    /// The peer must be removed.
    pub gone: bool,
    /// The stream's source should be asked for a key frame.
    pub ask_source: bool,
}

/// See the module.
pub struct Peer {
    /// The session's id.
    pub session: SessionId,
    /// Changes with every ICE restart.
    pub etag: String,
    /// Its local user fragment.
    pub ufrag: String,
    /// `mid` of the section with the candidates.
    pub mid: String,
    ice: IceAgent,
    remote: Credentials,
    dtls: DtlsTransport,
    srtp: Option<Box<SrtpContext>>,
    media: Media,
    started: Instant,
    /// DTLS datagrams that were sent to an unproven address.
    unproven: u32,
    /// …and those that wait for a proven one.
    held: VecDeque<BytesMut>,
    #[cfg(debug_assertions)]
    sinks: bool,
}

impl Peer {
    /// A peer that waits for the remote side's first check.
    ///
    /// # Errors
    /// DTLS cannot be set up; the error is a message for the log.
    pub fn new(
        new: NewPeer,
        now: Instant,
        tag: Tag,
        identity: &Identity,
        provider: Arc<dyn RTCCryptoProvider>,
    ) -> Result<Self, String> {
        let dtls = DtlsTransport::new(identity, new.fingerprints, new.role, provider.clone())
            .map_err(|error| error.to_string())?;
        let ufrag = new.local.ufrag.clone();
        let mut ice = IceAgent::new(now, new.local, new.remote.clone(), rand::random(), tag, provider);
        new.remotes.into_iter().for_each(|path| ice.add_remote(now, path));
        Ok(Self {
            session: new.session,
            etag: new.etag,
            ufrag,
            mid: new.mid,
            ice,
            remote: new.remote,
            dtls,
            srtp: None,
            media: new.media,
            started: now,
            unproven: 0,
            held: VecDeque::new(),
            #[cfg(debug_assertions)]
            sinks: false,
        })
    }

    /// Makes the next `poll` panic, for tests.
    #[cfg(debug_assertions)]
    pub fn sink(&mut self) {
        self.sinks = true;
    }

    /// The number of the stream generation that it watches, if it is a subscriber.
    pub fn watches(&self) -> Option<u64> {
        match &self.media {
            Media::Subscriber(subscriber) => Some(subscriber.stream),
            Media::Publisher(_) => None,
        }
    }

    /// Its publisher, if it publishes.
    pub fn publishes(&mut self) -> Option<&mut Publisher> {
        match &mut self.media {
            Media::Subscriber(_) => None,
            Media::Publisher(publisher) => Some(publisher),
        }
    }

    /// Whether the DTLS handshake is complete, so that media can flow.
    pub fn is_connected(&self) -> bool {
        self.srtp.is_some()
    }

    /// Whether packets of a replay are being paced.
    pub fn is_paced(&self) -> bool {
        matches!(&self.media, Media::Subscriber(subscriber) if subscriber.is_paced())
    }

    /// The remote side's ICE credentials, to recognise a restart.
    pub fn remote(&self) -> &Credentials {
        &self.remote
    }

    /// Performs an ICE restart.
    pub fn restart(&mut self, now: Instant, local: Credentials, remote: Credentials) {
        self.ufrag = local.ufrag.clone();
        self.remote = remote.clone();
        self.etag = new_etag();
        self.ice.restart(now, local, remote);
    }

    /// Adds another remote candidate.
    pub fn add_remote(&mut self, now: Instant, path: Path) {
        self.ice.add_remote(now, path);
    }

    /// Handles a datagram of any protocol; the first byte tells which (RFC 7983).
    pub fn input(
        &mut self,
        now: Instant,
        path: Path,
        data: &[u8],
        ring: &Ring,
        egress: &mut Egress,
        shared: &mut Shared,
    ) -> Effects {
        match data.first() {
            Some(0..=3) => self.stun(now, path, data, egress, shared),
            Some(20..=63) => self.dtls(now, data, egress),
            // RTCP's packet type is in the byte where RTP has marker and payload type (RFC 5761 §4).
            Some(128..=191) if matches!(data.get(1), Some(192..=223)) => self.rtcp(now, data, ring, egress),
            Some(128..=191) => self.rtp(now, data),
            _ => Effects::default(),
        }
    }

    fn stun(
        &mut self,
        now: Instant,
        path: Path,
        data: &[u8],
        egress: &mut Egress,
        shared: &mut Shared,
    ) -> Effects {
        let outcome = self.ice.handle(now, path, data, shared);
        for Outgoing { path, data } in &outcome.outgoing {
            egress.send(path, data);
        }
        let (authentic, proven, evicted) = (outcome.authentic, outcome.proven, outcome.evicted);
        let mut effects = Effects { authentic, proven, evicted, ..Effects::default() };
        if outcome.selected
            && self.srtp.is_none()
            && let Err(error) = self.dtls.start(now)
        {
            debug!(session = ?self.session, "cannot start DTLS: {error}");
            effects.gone = true;
        }
        if outcome.selected || outcome.proven {
            self.flush_dtls(egress);
        }
        effects
    }

    fn dtls(&mut self, now: Instant, data: &[u8], egress: &mut Egress) -> Effects {
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
                // Once connected, a stray record must not end the session.
                effects.gone = self.srtp.is_none();
            }
        }
        self.flush_dtls(egress);
        effects
    }

    /// Sends the handshake's datagrams on the selected path, or on another one that is proven. While there is none, one
    /// datagram is sent and the others wait: what is dropped would be sent again only much later.
    fn flush_dtls(&mut self, egress: &mut Egress) {
        while let Some(datagram) = self.dtls.outgoing() {
            if self.held.len() < MAX_HELD {
                self.held.push_back(datagram);
            }
        }
        let Some((path, is_proven)) = self.ice.handshake_path() else { return };
        while let Some(datagram) = self.held.front() {
            if !is_proven {
                if self.unproven >= MAX_UNPROVEN {
                    return;
                }
                self.unproven += 1;
            }
            egress.send(&path, datagram);
            self.held.pop_front();
        }
    }

    fn rtp(&mut self, now: Instant, data: &[u8]) -> Effects {
        // RTP from a viewer is ignored.
        if let (Media::Publisher(publisher), Some(srtp)) = (&mut self.media, &mut self.srtp)
            && let Ok(plain) = srtp.unprotect_rtp(data)
        {
            publisher.rtp(now, &plain);
        }
        Effects::default()
    }

    fn rtcp(&mut self, now: Instant, data: &[u8], ring: &Ring, egress: &mut Egress) -> Effects {
        let mut effects = Effects::default();
        let Some(srtp) = &mut self.srtp else { return effects };
        let Ok(plain) = srtp.unprotect_rtcp(data) else { return effects };
        match &mut self.media {
            Media::Publisher(publisher) => publisher.rtcp(now, &plain),
            Media::Subscriber(subscriber) => {
                let Some(path) = self.ice.selected() else { return effects };
                effects.ask_source = subscriber.rtcp(now, &plain, ring, &SecurePath { srtp, path }, egress);
            }
        }
        effects
    }

    /// Its subscriber and secure path, if it watches and is connected.
    fn subscriber(&mut self) -> Option<(&mut Subscriber, SecurePath<'_>)> {
        let path = self.ice.selected()?;
        match (&mut self.media, &mut self.srtp) {
            (Media::Subscriber(subscriber), Some(srtp)) => Some((subscriber, SecurePath { srtp, path })),
            _ => None,
        }
    }

    /// Starts sending media, with the cached GOP if there is one. `true` if the source should send a key frame.
    pub fn join(&mut self, ring: &Ring, now: Instant) -> bool {
        match &mut self.media {
            Media::Subscriber(subscriber) => subscriber.join(ring, now),
            Media::Publisher(_) => false,
        }
    }

    /// Goes on with another layer of the stream. `from`: the clocks of the one so far.
    pub fn switch(&mut self, now: Instant, from: &Clocks, to: &LayerView<'_>) {
        if let Media::Subscriber(subscriber) = &mut self.media {
            subscriber.switch(now, from, to);
        }
    }

    /// Sends the video packets that are due.
    pub fn send_video(&mut self, now: Instant, ring: &Ring, egress: &mut Egress, gso: &mut GsoBatch) {
        if let Some((subscriber, secure)) = self.subscriber() {
            subscriber.send_video(now, ring, &secure, egress, gso);
        }
    }

    /// Sends an audio packet without delay.
    pub fn send_audio(&mut self, packet: &Packet, egress: &mut Egress, gso: &mut GsoBatch) {
        if let Some((subscriber, secure)) = self.subscriber() {
            subscriber.send_audio(packet, &secure, egress, gso);
        }
    }

    /// Does timed work: ICE checks, handshake retransmissions, RTCP reports.
    pub fn poll(
        &mut self,
        now: Instant,
        clocks: &Clocks,
        egress: &mut Egress,
        shared: &mut Shared,
    ) -> Effects {
        #[cfg(debug_assertions)]
        assert!(!self.sinks, "panic requested by a test");
        let mut outgoing = Vec::new();
        let mut gone = !self.ice.poll(now, &mut outgoing, shared);
        for Outgoing { path, data } in &outgoing {
            egress.send(path, data);
        }
        if self.srtp.is_none() {
            // Measured from the POST; PATCHes in between do not extend it.
            gone |= now.saturating_duration_since(self.started) >= CONNECT_LIMIT;
            gone |= self.dtls.poll(now).is_err();
            self.flush_dtls(egress);
        }
        if let Some((subscriber, mut secure)) = self.subscriber() {
            subscriber.poll(now, clocks, &mut secure, egress);
        }
        if let (Media::Publisher(publisher), Some(srtp), Some(path)) =
            (&mut self.media, &mut self.srtp, self.ice.selected())
        {
            let report = publisher.poll(now);
            if let Some(Ok(sealed)) = report.map(|report| srtp.protect_rtcp(&report)) {
                egress.send(&path, &sealed);
            }
        }
        if let Media::Publisher(publisher) = &self.media {
            gone |= publisher.has_ended();
        }
        Effects { gone, ..Effects::default() }
    }

    /// Sends the DTLS close_notify.
    pub fn close(&mut self, now: Instant, egress: &mut Egress) {
        self.dtls.close(now);
        self.flush_dtls(egress);
    }
}
