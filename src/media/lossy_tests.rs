//! Two sides over a network that loses, duplicates, delays and reorders datagrams, in virtual time: the DTLS handshake
//! behind its screen, and media with NACK and RTX through SRTP. The network is seeded; nothing waits.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::publish::rtp_receiver::RtpReceiver;
use super::session::negotiate::{DtlsRole, ReceiveTrack, SendTrack};
use super::subscribe::ring::tests::packet;
use super::subscribe::track::OutTrack;
use super::transport::dtls::{DtlsEvent, DtlsTransport, Identity};
use super::transport::srtp::{Profile, SrtpContext};
use crate::rtp::packet::Rtp;
use crate::rtp::rtcp::{self, Feedback};
use crate::streams::packet::Track;

/// What a network does to datagrams: percentages, and a range of milliseconds.
#[derive(Clone, Copy)]
struct Network {
    loss: u32,
    duplicates: u32,
    delay: (u64, u64),
}

/// Datagrams under way to either side, by when they arrive.
struct Wire {
    network: Network,
    random: StdRng,
    under_way: BTreeMap<(Instant, u64), (usize, Vec<u8>)>,
    sent: u64,
}

impl Wire {
    fn new(network: Network, seed: u64) -> Self {
        Self { network, random: StdRng::seed_from_u64(seed), under_way: BTreeMap::new(), sent: 0 }
    }

    fn send(&mut self, now: Instant, to: usize, data: &[u8]) {
        let Network { loss, duplicates, delay } = self.network;
        let copies = 1 + u32::from(self.random.random_range(0..100) < duplicates);
        for _ in 0..copies {
            let after = self.random.random_range(delay.0..=delay.1);
            self.sent += 1;
            if self.random.random_range(0..100) >= loss {
                self.under_way.insert((now + Duration::from_millis(after), self.sent), (to, data.to_vec()));
            }
        }
    }

    /// What has arrived by now.
    fn arrived(&mut self, now: Instant) -> Vec<(usize, Vec<u8>)> {
        let later = self.under_way.split_off(&(now, u64::MAX));
        std::mem::replace(&mut self.under_way, later).into_values().collect()
    }
}

fn dtls_pair() -> [DtlsTransport; 2] {
    let provider = rtc::crypto::default_provider().unwrap();
    let sides = [(); 2].map(|()| Identity::generate(&*provider).unwrap());
    let known = |identity: &Identity| {
        let bytes = identity.fingerprint().split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap());
        vec![("sha-256".to_owned(), bytes.collect())]
    };
    [(0, DtlsRole::Client), (1, DtlsRole::Server)].map(|(side, role)| {
        DtlsTransport::new(&sides[side], known(&sides[1 - side]), role, provider.clone()).unwrap()
    })
}

/// How long a handshake takes; `None` if it is not done after 15 s, when a session would be closed. The network loses
/// those datagrams, too, that `loses` names: by sender and number.
fn handshake(network: Network, seed: u64, loses: impl Fn(usize, usize) -> bool) -> Option<Duration> {
    let start = Instant::now();
    let mut sides = dtls_pair();
    let mut wire = Wire::new(network, seed);
    let mut connected = [false; 2];
    let mut counts = [0; 2];
    sides[0].start(start).unwrap();
    for millisecond in (0..15_000).step_by(5) {
        let now = start + Duration::from_millis(millisecond);
        for (to, datagram) in wire.arrived(now) {
            let event = sides[to].handle(now, &datagram).unwrap();
            connected[to] |= matches!(event, Some(DtlsEvent::Connected(_)));
        }
        for (from, side) in sides.iter_mut().enumerate() {
            side.poll(now).unwrap();
            while let Some(datagram) = side.outgoing() {
                counts[from] += 1;
                if !loses(from, counts[from]) {
                    wire.send(now, 1 - from, &datagram);
                }
            }
        }
        if connected == [true; 2] {
            return Some(now - start);
        }
    }
    None
}

/// Given the peer's repeated flight, rtc stops its timer: a client whose last flight was lost never connected.
#[test]
fn each_datagram_of_a_handshake_may_be_lost_once() {
    let network = Network { loss: 0, duplicates: 0, delay: (20, 20) };
    for side in 0..2 {
        for lost in 1..=4 {
            let took = handshake(network, 1, |from, number| from == side && number == lost);
            assert!(took.is_some_and(|took| took < Duration::from_secs(3)), "{side} {lost}: {took:?}");
        }
        // The first three datagrams of a side, and every second one after that.
        let took = handshake(network, 1, |from, number| from == side && (number <= 3 || number % 2 == 0));
        assert!(took.is_some(), "{side}");
    }
}

#[test]
fn a_handshake_survives_loss_duplicates_and_disorder() {
    let good = Network { loss: 0, duplicates: 20, delay: (20, 60) };
    let bad = Network { loss: 20, duplicates: 10, delay: (20, 120) };
    for seed in 0..50 {
        let took = handshake(good, seed, |_, _| false).unwrap();
        assert!(took < Duration::from_millis(1500), "seed {seed}: {took:?}");
        assert!(handshake(bad, seed, |_, _| false).is_some(), "seed {seed}");
    }
}

/// A viewer's track on one side, a receiver on the other.
struct Media {
    track: OutTrack,
    contexts: [SrtpContext; 2],
    receiver: RtpReceiver,
    wire: Wire,
    /// Indexes that were delivered, and how many were lost before each.
    delivered: Vec<(u64, u16)>,
    requests: usize,
}

const FRAMES: u64 = 2000;

impl Media {
    fn new(network: Network, seed: u64) -> Self {
        let provider = rtc::crypto::default_provider().unwrap();
        let material = vec![3; Profile::Aes128Gcm.keying_material_len()];
        let context =
            |client| SrtpContext::new(Profile::Aes128Gcm, &material, client, provider.crypto()).unwrap();
        let send = SendTrack {
            payload_type: 96,
            rtx_payload_type: Some(97),
            nack: true,
            playout_delay: None,
            ssrc: 11,
            rtx_ssrc: 22,
        };
        let receive = ReceiveTrack {
            payload_type: 96,
            rtx_payload_type: Some(97),
            nack: true,
            transport_cc: None,
            clock: 90_000,
        };
        Self {
            track: OutTrack::new(send, 65_000, 0),
            contexts: [context(true), context(false)],
            receiver: RtpReceiver::new(Track::Video, receive),
            wire: Wire::new(network, seed),
            delivered: Vec::new(),
            requests: 0,
        }
    }

    fn run(&mut self) {
        let start = Instant::now();
        for millisecond in 0..FRAMES * 2 + 2000 {
            let now = start + Duration::from_millis(millisecond);
            if millisecond % 2 == 0 && millisecond / 2 < FRAMES {
                let mut buffer = Vec::new();
                let mut packet = packet(1 + millisecond / 2, millisecond == 0);
                packet.payload = Bytes::copy_from_slice(&packet.index.to_be_bytes());
                self.track.write(&mut buffer, self.contexts[0].protector(), &packet).unwrap();
                self.wire.send(now, 1, &buffer);
            }
            for (to, datagram) in self.wire.arrived(now) {
                if to == 1 { self.receive(now, &datagram) } else { self.resend(now, &datagram) }
            }
            let missing = self.receiver.nack(now);
            if !missing.is_empty() {
                self.requests += missing.len();
                let mut compound = rtcp::receiver_report(1, &[], "test");
                compound.extend(rtcp::nack(1, 11, &missing));
                let protected = self.contexts[1].protect_rtcp(&compound).unwrap();
                self.wire.send(now, 0, &protected);
            }
            for packet in self.receiver.ripe(now) {
                let index = u64::from_be_bytes(packet.payload[..].try_into().unwrap());
                self.delivered.push((index, packet.lost));
            }
        }
    }

    fn receive(&mut self, now: Instant, datagram: &[u8]) {
        // A duplicate is refused by the replay window (RFC 3711 §3.3.2).
        let Ok(plain) = self.contexts[1].unprotect_rtp(datagram) else { return };
        self.receiver.push(now, Rtp::parse(&plain, None).unwrap());
    }

    fn resend(&mut self, now: Instant, datagram: &[u8]) {
        let Ok(plain) = self.contexts[0].unprotect_rtcp(datagram) else { return };
        for feedback in rtcp::parse(&plain) {
            let Feedback::Nack { sequence, mask, .. } = feedback else { continue };
            let others = (0..16).filter(|bit| mask >> bit & 1 == 1).map(|bit| sequence.wrapping_add(bit + 1));
            for sequence in std::iter::once(sequence).chain(others) {
                let Some(resend) = self.track.find(sequence, FRAMES) else { continue };
                let mut packet = packet(resend.index, false);
                packet.payload = Bytes::copy_from_slice(&resend.index.to_be_bytes());
                let mut buffer = Vec::new();
                self.track.rewrite(&mut buffer, self.contexts[0].protector(), &resend, &packet).unwrap();
                self.wire.send(now, 1, &buffer);
            }
        }
    }
}

#[test]
fn lost_packets_are_requested_and_delivered_in_order() {
    for seed in 0..10 {
        let mut media = Media::new(Network { loss: 3, duplicates: 5, delay: (10, 25) }, seed);
        media.run();
        // What the network reorders before the first packet that arrives is not known to be missing.
        let first = media.delivered[0].0;
        assert!(first <= 20, "seed {seed}: starts at {first}");
        let deviation = media.delivered.iter().zip(first..).find(|(got, index)| **got != (*index, 0));
        assert_eq!(deviation, None, "seed {seed}");
        assert_eq!(media.delivered.len() as u64, FRAMES + 1 - first, "seed {seed}: to the last one");
        // Loss of 3 %, disorder, and requests that are lost themselves.
        assert!(media.requests < FRAMES as usize, "seed {seed}: {} requests", media.requests);
    }
}

#[test]
fn what_cannot_be_repaired_is_a_gap_and_nothing_stalls() {
    for seed in 0..10 {
        let mut media = Media::new(Network { loss: 45, duplicates: 0, delay: (60, 140) }, seed);
        media.run();
        let indexes: Vec<u64> = media.delivered.iter().map(|(index, _)| *index).collect();
        assert!(indexes.is_sorted_by(|one, two| one < two), "seed {seed}: in order, and none twice");
        assert!(indexes.len() > FRAMES as usize / 2, "seed {seed}: {}", indexes.len());
        let gaps: u64 = media.delivered.iter().map(|(_, lost)| u64::from(*lost)).sum();
        let (first, last) = (indexes[0], indexes[indexes.len() - 1]);
        assert_eq!(indexes.len() as u64 + gaps, last - first + 1, "seed {seed}: every gap is told");
    }
}
