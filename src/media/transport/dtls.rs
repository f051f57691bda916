//! The DTLS handshake of one peer, using rtc's dtls, and the SRTP keys derived from it (RFC 5764). Sans-I/O like the
//! rest: datagrams in, datagrams out. ICE decides where they are sent. Start at [`DtlsTransport::handle`].

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rtc::crypto::RTCCryptoProvider;
use rtc::dtls::config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig};
use rtc::dtls::crypto::Certificate;
use rtc::dtls::endpoint::{Endpoint, EndpointEvent};
use rtc::dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc::shared::TransportProtocol;
use rtc::shared::error::Error as RtcError;
use rtc::srtp::config::LABEL_EXTRACTOR_DTLS_SRTP;

use crate::dtls_screen::Screen;
use crate::media::session::negotiate::{DtlsRole, Fingerprint};
use crate::media::transport::srtp::{Profile, SrtpContext};

/// Placeholder for the peer's address: DTLS runs over whichever pair ICE selects.
const PEER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1));

/// Our certificate: one for all peers, generated at start.
pub struct Identity {
    certificate: Certificate,
    fingerprint: String,
}

impl Identity {
    /// Generates a key and a self-signed certificate.
    ///
    /// # Errors
    /// The crypto provider fails.
    pub fn generate(provider: &dyn RTCCryptoProvider) -> Result<Self, RtcError> {
        let names = vec!["gatehouse".to_owned()];
        let certificate = Certificate::generate_self_signed(names, provider.crypto())?;
        let der = certificate.certificate.first().ok_or(RtcError::ErrNonCertificate)?;
        let digest = ring::digest::digest(&ring::digest::SHA256, der);
        let bytes: Vec<String> = digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
        let fingerprint = bytes.join(":");
        Ok(Self { certificate, fingerprint })
    }

    /// The SHA-256 fingerprint, for the SDP.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

/// An event of the DTLS connection.
pub enum DtlsEvent {
    /// The handshake is complete: media may flow.
    Connected(Box<SrtpContext>),
    /// The remote side has closed the connection.
    Closed,
}

/// The last flight is sent again when the peer repeats its own (RFC 6347 §4.2.4), but not sooner than this after it was
/// sent: the peer's flight may be in several datagrams.
const REPEAT: Duration = Duration::from_millis(200);
/// …and when nothing has come for this long.
const RETRANSMIT: Duration = Duration::from_secs(1);
/// How often at most in one handshake.
const MAX_REPEATS: u32 = 12;
/// Datagrams of a flight: two, or three with a long certificate.
const MAX_FLIGHT: usize = 8;

/// What was sent since the peer was last heard. rtc sends it again by its timer; this sends it sooner, when the peer's
/// repeated flight shows that ours was lost.
#[derive(Default)]
struct Flight {
    datagrams: Vec<BytesMut>,
    /// The next datagram begins a new flight.
    ended: bool,
    sent: Option<Instant>,
    repeats: u32,
    waiting: VecDeque<BytesMut>,
}

impl Flight {
    fn sent(&mut self, now: Instant, datagram: &BytesMut) {
        if std::mem::take(&mut self.ended) {
            self.datagrams.clear();
        }
        self.sent = Some(now);
        if self.datagrams.len() < MAX_FLIGHT {
            self.datagrams.push(datagram.clone());
        }
    }

    /// Sends it again if it was sent at least so long ago. The records are the same: the peer has not seen those that it
    /// lacks, and drops the others.
    fn repeat(&mut self, now: Instant, after: Duration) {
        let is_due = self.sent.is_some_and(|sent| now.saturating_duration_since(sent) >= after);
        if is_due && self.repeats < MAX_REPEATS {
            self.repeats += 1;
            self.sent = Some(now);
            self.waiting = self.datagrams.iter().cloned().collect();
        }
    }
}

/// One peer's handshake.
pub struct DtlsTransport {
    provider: Arc<dyn RTCCryptoProvider>,
    endpoint: Endpoint,
    client_config: Option<Arc<HandshakeConfig>>,
    role: DtlsRole,
    screen: Screen,
    flight: Flight,
    /// What rtc has produced.
    produced: VecDeque<BytesMut>,
    is_connected: bool,
}

impl DtlsTransport {
    /// Prepares a handshake in which the peer must present a certificate with one of these fingerprints.
    ///
    /// # Errors
    /// The configuration is rejected.
    pub fn new(
        identity: &Identity,
        fingerprints: Vec<Fingerprint>,
        role: DtlsRole,
        provider: Arc<dyn RTCCryptoProvider>,
    ) -> Result<Self, RtcError> {
        let verify = move |chain: &[Vec<u8>], _: &[_]| match chain.first() {
            Some(certificate) if fingerprints.iter().any(|fingerprint| matches(fingerprint, certificate)) => {
                Ok(())
            }
            Some(_) => Err(RtcError::ErrNoMatchingCertificateFingerprint),
            None => Err(RtcError::ErrNonCertificate),
        };
        let config = ConfigBuilder::default()
            .with_crypto_provider(provider.clone())
            .with_certificates(vec![identity.certificate.clone()])
            .with_srtp_protection_profiles(vec![
                SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
                SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
            ])
            .with_client_auth(ClientAuthType::RequireAnyClientCert)
            // These certificates are self-signed: they are verified against the fingerprint in the SDP.
            .with_insecure_skip_verify(true)
            .with_verify_peer_certificate(Some(Arc::new(verify)))
            // Not evaluated by anyone; set so that rtc does not derive one.
            .with_server_name("gatehouse".to_owned())
            .with_extended_master_secret(ExtendedMasterSecretType::Require)
            .build(role == DtlsRole::Client, None)?;
        let config = Arc::new(config);
        let (client_config, server_config) = match role {
            DtlsRole::Client => (Some(config), None),
            DtlsRole::Server => (None, Some(config)),
        };
        let endpoint = Endpoint::new(PEER, TransportProtocol::UDP, server_config);
        Ok(Self {
            provider,
            endpoint,
            client_config,
            role,
            screen: Screen::default(),
            flight: Flight::default(),
            produced: VecDeque::new(),
            is_connected: false,
        })
    }

    /// Starts the handshake if we are the client. Does nothing when called again.
    ///
    /// # Errors
    /// The handshake cannot be started.
    pub fn start(&mut self, now: Instant) -> Result<(), RtcError> {
        match self.client_config.take() {
            Some(config) => {
                self.endpoint.connect(now, PEER, config, None)?;
                // rtc sends the ClientHello only when its first timer fires.
                self.endpoint.handle_timeout(PEER, now)?;
                self.collect(now);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Takes what rtc has produced.
    fn collect(&mut self, now: Instant) {
        while let Some(transmit) = self.endpoint.poll_transmit() {
            if !self.is_connected {
                self.flight.sent(now, &transmit.message);
            }
            self.produced.push_back(transmit.message);
        }
    }

    /// Handles a datagram.
    ///
    /// # Errors
    /// The handshake has failed, or the datagram is not of this connection; the caller decides by
    /// whether the handshake is done.
    pub fn handle(&mut self, now: Instant, data: &[u8]) -> Result<Option<DtlsEvent>, RtcError> {
        if self.client_config.is_some() {
            // Before our ClientHello is sent, nothing can be a response to it.
            return Ok(None);
        }
        let repeats = self.screen.repeats();
        let admitted = self.screen.admit(data);
        if self.screen.repeats() > repeats && !self.is_connected {
            self.flight.repeat(now, REPEAT);
        }
        let Some(admitted) = admitted else { return Ok(None) };
        self.flight.ended = true;
        let events = self.endpoint.read(now, PEER, None, BytesMut::from(&admitted[..]))?;
        let mut result = None;
        for event in events {
            match event {
                EndpointEvent::HandshakeComplete => {
                    self.screen.connected();
                    self.is_connected = true;
                    result = Some(DtlsEvent::Connected(Box::new(self.session()?)));
                }
                EndpointEvent::PeerClosed => result = Some(DtlsEvent::Closed),
                _ => {}
            }
        }
        self.collect(now);
        Ok(result)
    }

    fn session(&self) -> Result<SrtpContext, RtcError> {
        let state = self.endpoint.get_connection_state(PEER).ok_or(RtcError::HandshakeInProgress)?;
        let profile = match state.srtp_protection_profile() {
            SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm => Profile::Aes128Gcm,
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80 => Profile::Aes128CmSha1_80,
            _ => return Err(RtcError::ErrNoSuchSrtpProfile),
        };
        let material =
            state.export_keying_material(LABEL_EXTRACTOR_DTLS_SRTP, &[], profile.keying_material_len())?;
        let is_client = self.role == DtlsRole::Client;
        SrtpContext::new(profile, material.as_ref(), is_client, self.provider.crypto())
            .map_err(|error| RtcError::Other(error.to_string()))
    }

    /// Sends retransmissions that are due.
    ///
    /// # Errors
    /// The handshake has exhausted its retransmissions.
    pub fn poll(&mut self, now: Instant) -> Result<(), RtcError> {
        match self.endpoint.poll_timeout(&PEER) {
            Some(due) if due <= now => {
                self.flight.ended = true;
                self.endpoint.handle_timeout(PEER, now)?;
                self.collect(now);
            }
            None if !self.is_connected => self.flight.repeat(now, RETRANSMIT),
            _ => {}
        }
        Ok(())
    }

    /// The next datagram to send.
    pub fn outgoing(&mut self) -> Option<BytesMut> {
        self.produced.pop_front().or_else(|| self.flight.waiting.pop_front())
    }

    /// Queues a close_notify.
    pub fn close(&mut self, now: Instant) {
        let _ = self.endpoint.close(now);
        self.collect(now);
    }
}

fn matches((hash, expected): &Fingerprint, certificate: &[u8]) -> bool {
    let algorithm = match hash.as_str() {
        "sha-256" => &ring::digest::SHA256,
        "sha-384" => &ring::digest::SHA384,
        "sha-512" => &ring::digest::SHA512,
        _ => return false,
    };
    ring::digest::digest(algorithm, certificate).as_ref() == expected
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(fingerprint: &str) -> Vec<u8> {
        fingerprint.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
    }

    fn pair(expected_by_client: Vec<u8>, client: &Identity, server: &Identity) -> [DtlsTransport; 2] {
        let provider = rtc::crypto::default_provider().unwrap();
        let of = |bytes| vec![("sha-256".to_owned(), bytes)];
        let known = parse(client.fingerprint());
        [
            DtlsTransport::new(client, of(expected_by_client), DtlsRole::Client, provider.clone()).unwrap(),
            DtlsTransport::new(server, of(known), DtlsRole::Server, provider).unwrap(),
        ]
    }

    fn run(peers: &mut [DtlsTransport; 2]) -> Result<Vec<SrtpContext>, RtcError> {
        let now = Instant::now();
        let mut sessions = Vec::new();
        peers[0].start(now)?;
        for round in 0..40 {
            let (from, to) = (round % 2, (round + 1) % 2);
            while let Some(datagram) = peers[from].outgoing() {
                if let Some(DtlsEvent::Connected(session)) = peers[to].handle(now, &datagram)? {
                    sessions.push(*session);
                }
            }
        }
        Ok(sessions)
    }

    #[test]
    fn both_sides_get_the_same_keys_without_waiting() {
        let provider = rtc::crypto::default_provider().unwrap();
        let [client, server] = [(); 2].map(|()| Identity::generate(&*provider).unwrap());
        let mut peers = pair(parse(server.fingerprint()), &client, &server);
        let mut sessions = run(&mut peers).unwrap();
        assert_eq!(sessions.len(), 2);
        assert_eq!(sessions[0].profile(), sessions[1].profile());
        let (mut one, mut two) = (sessions.pop().unwrap(), sessions.pop().unwrap());
        let report = [0x80, 201, 0, 1, 0, 0, 0, 5];
        assert_eq!(two.unprotect_rtcp(&one.protect_rtcp(&report).unwrap()).unwrap(), report);
        peers[0].close(Instant::now());
        let farewell = peers[0].outgoing().unwrap();
        let event = peers[1].handle(Instant::now(), &farewell).unwrap();
        assert!(matches!(event, Some(DtlsEvent::Closed)));
    }

    #[test]
    fn a_stranger_is_refused() {
        let provider = rtc::crypto::default_provider().unwrap();
        let [client, server] = [(); 2].map(|()| Identity::generate(&*provider).unwrap());
        assert!(run(&mut pair(vec![0; 32], &client, &server)).is_err());
    }
}
