//! One incoming track of a publisher: reordering, NACKs for missing packets, receiver report statistics (RFC 3550 §6.4
//! and its appendix A, RFC 4585, RFC 4588). Pure. Start at [`RtpReceiver::push`].

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::media::session::negotiate::ReceiveTrack;
use crate::rtp::ntp;
use crate::rtp::packet::Rtp;
use crate::rtp::reorder::{self, Reorder};
use crate::rtp::rtcp::ReportBlock;
use crate::streams::packet::{RtpIn, Track};

/// Time between two NACKs for the same packet: longer than most round trips.
const NACK_PAUSE: Duration = Duration::from_millis(60);
/// NACKs sent for one packet.
const NACK_TRIES: u8 = 4;
/// Packets that are missing at a time; if more are, recovery is left to a key frame.
const MAX_MISSING: usize = 256;

/// See the module.
pub struct RtpReceiver {
    kind: Track,
    settings: ReceiveTrack,
    ssrc: Option<u32>,
    reorder: Reorder<RtpIn>,
    ready: VecDeque<RtpIn>,
    /// By extended sequence number: when to send the next NACK, and how many were sent.
    missing: BTreeMap<u64, (Instant, u8)>,
    counts: Counts,
    last_sender_report: Option<(u32, Instant)>,
    /// A packet was dropped downstream, so a gap precedes the next one.
    dropped: bool,
}

fn new_reorder(kind: Track) -> Reorder<RtpIn> {
    Reorder::new(match kind {
        Track::Video => reorder::VIDEO_PATIENCE,
        Track::Audio => reorder::AUDIO_PATIENCE,
    })
}

#[derive(Default)]
struct Counts {
    first: u64,
    highest: u64,
    received: u64,
    expected_before: u64,
    received_before: u64,
    /// In ticks, times 16 (RFC 3550 §A.8).
    jitter: u32,
    last: Option<(Instant, u32)>,
}

impl RtpReceiver {
    /// A track without any packets yet.
    pub fn new(kind: Track, settings: ReceiveTrack) -> Self {
        Self {
            kind,
            settings,
            ssrc: None,
            reorder: new_reorder(kind),
            ready: VecDeque::new(),
            missing: BTreeMap::new(),
            counts: Counts::default(),
            last_sender_report: None,
            dropped: false,
        }
    }

    /// Video or audio.
    pub fn kind(&self) -> Track {
        self.kind
    }

    /// The publisher's SSRC, once known.
    pub fn ssrc(&self) -> Option<u32> {
        self.ssrc
    }

    /// Whether a payload type belongs to this track.
    pub fn takes(&self, payload_type: u8) -> bool {
        payload_type == self.settings.payload_type || Some(payload_type) == self.settings.rtx_payload_type
    }

    /// Handles a packet or an RTX retransmission.
    pub fn push(&mut self, now: Instant, mut rtp: Rtp) {
        if rtp.payload_type != self.settings.payload_type {
            // RFC 4588 §4: original sequence number, then original payload. Chromium's probing packets have neither.
            let Some(&[high, low]) = rtp.payload.first_chunk::<2>() else { return };
            rtp.sequence = u16::from_be_bytes([high, low]);
            rtp.payload = rtp.payload.slice(2..);
        } else if self.ssrc != Some(rtp.ssrc) || self.reorder.restarts_at(rtp.sequence) {
            self.begin(rtp.ssrc, rtp.sequence);
        }
        if self.ssrc.is_none() {
            return;
        }
        let number = self.count(now, rtp.sequence, rtp.timestamp);
        self.missing.remove(&number);
        let packet = RtpIn {
            track: self.kind,
            timestamp: rtp.timestamp,
            marker: rtp.marker,
            lost: 0,
            payload: rtp.payload,
        };
        self.take(now, rtp.sequence, packet);
    }

    /// Resets the state for a new SSRC, or for one whose sequence numbers have restarted.
    fn begin(&mut self, ssrc: u32, sequence: u16) {
        self.dropped |= self.ssrc.is_some();
        self.ssrc = Some(ssrc);
        self.reorder = new_reorder(self.kind);
        self.missing.clear();
        self.last_sender_report = None;
        let first = u64::from(sequence) + 0x1_0000;
        self.counts = Counts { first, highest: first - 1, ..Counts::default() };
    }

    fn count(&mut self, now: Instant, sequence: u16, timestamp: u32) -> u64 {
        let counts = &mut self.counts;
        let distance = i64::from(sequence.wrapping_sub(counts.highest as u16) as i16);
        let number = counts.highest.saturating_add_signed(distance);
        counts.received += 1;
        if let Some((at, before)) = counts.last {
            let ticks = now.saturating_duration_since(at).as_secs_f64() * f64::from(self.settings.clock);
            let step = timestamp.wrapping_sub(before) as i32;
            let apart = (ticks as i64 - i64::from(step)).unsigned_abs().min(1 << 24) as u32;
            counts.jitter = counts.jitter + apart - ((counts.jitter + 8) >> 4);
        }
        if number > counts.highest {
            counts.last = Some((now, timestamp));
            if self.settings.nack {
                let gap = counts.highest + 1..number;
                if gap.end - gap.start > MAX_MISSING as u64 {
                    self.missing.clear();
                } else {
                    self.missing.extend(gap.map(|number| (number, (now, 0))));
                    while self.missing.len() > MAX_MISSING {
                        self.missing.pop_first();
                    }
                }
            }
            counts.highest = number;
        }
        number
    }

    fn take(&mut self, now: Instant, sequence: u16, packet: RtpIn) {
        let ripe = self.reorder.push(now, sequence, packet);
        self.queue(ripe);
    }

    fn queue(&mut self, ripe: Vec<(u16, RtpIn)>) {
        // An empty payload counts for the order but is not forwarded.
        let full = ripe.into_iter().filter(|(lost, packet)| *lost > 0 || !packet.payload.is_empty());
        self.ready.extend(full.map(|(lost, packet)| RtpIn { lost, ..packet }));
    }

    /// The packets that are ready for delivery, in order.
    pub fn ripe(&mut self, now: Instant) -> Vec<RtpIn> {
        let late = self.reorder.ripe(now);
        self.queue(late);
        let mut ready: Vec<RtpIn> = self.ready.drain(..).collect();
        if let Some(first) = ready.first_mut()
            && std::mem::take(&mut self.dropped)
        {
            first.lost = first.lost.max(1);
        }
        ready
    }

    /// Records that a packet was dropped downstream.
    pub fn dropped(&mut self) {
        self.dropped = true;
    }

    /// The sequence numbers to send NACKs for now.
    pub fn nack(&mut self, now: Instant) -> Vec<u16> {
        let mut asked = Vec::new();
        self.missing.retain(|number, (due, tries)| {
            if *due > now {
                return true;
            }
            *tries += 1;
            *due = now + NACK_PAUSE;
            asked.push(*number as u16);
            *tries < NACK_TRIES
        });
        asked
    }

    /// Records a sender report.
    pub fn sender_report(&mut self, now: Instant, ntp: u64) {
        self.last_sender_report = Some((ntp::middle(ntp), now));
    }

    /// The report block, once a packet has arrived.
    pub fn report(&mut self, now: Instant) -> Option<ReportBlock> {
        let ssrc = self.ssrc?;
        let counts = &mut self.counts;
        let expected = counts.highest + 1 - counts.first;
        let (expected_now, received_now) =
            (expected - counts.expected_before, counts.received - counts.received_before);
        (counts.expected_before, counts.received_before) = (expected, counts.received);
        let lost_now = expected_now.saturating_sub(received_now);
        let fraction = (lost_now << 8).checked_div(expected_now).unwrap_or_default();
        let (last_report, delay) = self.last_sender_report.map_or((0, 0), |(middle, at)| {
            (middle, (now.saturating_duration_since(at).as_secs_f64() * 65_536.0) as u32)
        });
        Some(ReportBlock {
            ssrc,
            fraction_lost: fraction.min(255) as u8,
            lost: expected.saturating_sub(counts.received).min(0x7f_ffff) as u32,
            highest: (counts.highest - 0x1_0000) as u32,
            jitter: counts.jitter >> 4,
            last_report,
            delay,
        })
    }
}
