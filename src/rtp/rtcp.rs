//! RTCP in both directions (RFC 3550, 4585, 5104): parses the reports and feedback of viewers and publishers, and
//! builds the reports and requests sent to them. Pure. Start at [`parse`].

/// One item of a received compound packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Feedback {
    /// Missing sequence numbers of a track (RFC 4585 §6.2.1): one, and a bit for each of the next 16.
    Nack {
        /// The track's SSRC.
        ssrc: u32,
        /// The first missing one.
        sequence: u16,
        /// Which of the 16 after it are missing too.
        mask: u16,
    },
    /// A key frame is needed (PLI, or FIR of RFC 5104 §4.3.1).
    KeyFrame {
        /// The track's SSRC.
        ssrc: u32,
    },
    /// A reception report (RFC 3550 §6.4).
    Report {
        /// The track's SSRC.
        ssrc: u32,
        /// Of the packets since the last report, in 256ths.
        fraction_lost: u8,
        /// In clock ticks.
        jitter: u32,
        /// The middle 32 bits of the last sender report's time; 0 if there was none.
        last_report: u32,
        /// Since that report, in 65,536ths of a second.
        delay: u32,
    },
    /// A sender report: maps a track's RTP timestamp to the sender's clock.
    Sender {
        /// The track's SSRC.
        ssrc: u32,
        /// The 64-bit NTP timestamp.
        ntp: u64,
        /// RTP timestamp.
        timestamp: u32,
    },
    /// The other side leaves.
    Bye,
}

/// Maximum number of items per compound packet; more than any real one has.
const MAX_FEEDBACK: usize = 256;

/// Parses a compound packet. Stops at the first malformed part.
pub fn parse(data: &[u8]) -> Vec<Feedback> {
    let mut found = Vec::new();
    let mut rest = data;
    while let Some(&[first, kind, high, low]) = rest.first_chunk::<4>() {
        let length = (usize::from(u16::from_be_bytes([high, low])) + 1) * 4;
        if first >> 6 != 2 || length > rest.len() {
            break;
        }
        let (packet, behind) = rest.split_at(length);
        packet_feedback(kind, first & 0x1f, packet, &mut found);
        rest = behind;
    }
    found.truncate(MAX_FEEDBACK);
    found
}

fn packet_feedback(kind: u8, count: u8, packet: &[u8], found: &mut Vec<Feedback>) {
    match (kind, count) {
        (200, _) => {
            if let (Some(ssrc), Some(high), Some(low), Some(timestamp)) =
                (word(packet, 4), word(packet, 8), word(packet, 12), word(packet, 16))
            {
                let ntp = u64::from(high) << 32 | u64::from(low);
                found.push(Feedback::Sender { ssrc, ntp, timestamp });
            }
            reports(packet.get(28..), count, found);
        }
        (201, _) => reports(packet.get(8..), count, found),
        (203, _) => found.push(Feedback::Bye),
        (205, 1) => {
            let Some(ssrc) = word(packet, 8) else { return };
            for item in packet[12..].chunks_exact(4) {
                let sequence = u16::from_be_bytes([item[0], item[1]]);
                let mask = u16::from_be_bytes([item[2], item[3]]);
                found.push(Feedback::Nack { ssrc, sequence, mask });
            }
        }
        (206, 1) => found.extend(word(packet, 8).map(|ssrc| Feedback::KeyFrame { ssrc })),
        (206, 4) => found.extend(word(packet, 12).map(|ssrc| Feedback::KeyFrame { ssrc })),
        _ => {}
    }
}

fn reports(blocks: Option<&[u8]>, count: u8, found: &mut Vec<Feedback>) {
    for block in blocks.unwrap_or_default().chunks_exact(24).take(usize::from(count)) {
        let field = |at| word(block, at).unwrap_or_default();
        found.push(Feedback::Report {
            ssrc: field(0),
            fraction_lost: block[4],
            jitter: field(12),
            last_report: field(16),
            delay: field(20),
        });
    }
}

fn word(data: &[u8], at: usize) -> Option<u32> {
    data.get(at..at + 4).map(|bytes| u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

/// Builds a sender report with a CNAME (RFC 3550 §6.4.1 and §6.5.1).
pub fn sender_report(ssrc: u32, ntp: u64, timestamp: u32, packets: u32, octets: u32, cname: &str) -> Vec<u8> {
    let mut out = vec![0x80, 200, 0, 6];
    out.extend_from_slice(&ssrc.to_be_bytes());
    out.extend_from_slice(&ntp.to_be_bytes());
    for word in [timestamp, packets, octets] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    description(&mut out, ssrc, cname);
    out
}

/// Appends a CNAME, which every compound packet must contain.
fn description(out: &mut Vec<u8>, ssrc: u32, cname: &str) {
    let start = out.len();
    let cname = &cname.as_bytes()[..cname.len().min(64)];
    // Type, length, text, and at least one zero up to the next word.
    let items = (2 + cname.len() + 1).next_multiple_of(4);
    out.extend_from_slice(&[0x81, 202]);
    out.extend_from_slice(&((items / 4 + 1) as u16).to_be_bytes());
    out.extend_from_slice(&ssrc.to_be_bytes());
    out.extend_from_slice(&[1, cname.len() as u8]);
    out.extend_from_slice(cname);
    out.resize(start + 8 + items, 0);
}

/// Our reception statistics for a track.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ReportBlock {
    /// The track's SSRC.
    pub ssrc: u32,
    /// Of the packets since the last report, in 256ths.
    pub fraction_lost: u8,
    /// Total packets lost, 24 bits.
    pub lost: u32,
    /// The extended highest sequence number: rollover count and sequence number.
    pub highest: u32,
    /// In clock ticks.
    pub jitter: u32,
    /// The middle 32 bits of the last sender report's time; 0 if there was none.
    pub last_report: u32,
    /// Since that report, in 65,536ths of a second.
    pub delay: u32,
}

/// Builds a receiver report with a CNAME, which any compound packet may begin with (RFC 3550 §6.4.2).
pub fn receiver_report(sender: u32, blocks: &[ReportBlock], cname: &str) -> Vec<u8> {
    let blocks = &blocks[..blocks.len().min(31)];
    let mut out = vec![0x80 | blocks.len() as u8, 201];
    out.extend_from_slice(&(1 + 6 * blocks.len() as u16).to_be_bytes());
    out.extend_from_slice(&sender.to_be_bytes());
    for block in blocks {
        let lost = u32::from(block.fraction_lost) << 24 | block.lost.min(0x7f_ffff);
        for word in [block.ssrc, lost, block.highest, block.jitter, block.last_report, block.delay] {
            out.extend_from_slice(&word.to_be_bytes());
        }
    }
    description(&mut out, sender, cname);
    out
}

/// Builds a NACK (RFC 4585 §6.2.1). `missing` must be in order.
pub fn nack(sender: u32, media: u32, missing: &[u16]) -> Vec<u8> {
    let mut items: Vec<(u16, u16)> = Vec::new();
    for &sequence in missing {
        match items.last_mut() {
            Some((first, mask)) if (1..=16).contains(&sequence.wrapping_sub(*first)) => {
                *mask |= 1 << (sequence.wrapping_sub(*first) - 1);
            }
            _ => items.push((sequence, 0)),
        }
    }
    let mut out = vec![0x81, 205];
    out.extend_from_slice(&(2 + items.len() as u16).to_be_bytes());
    out.extend_from_slice(&sender.to_be_bytes());
    out.extend_from_slice(&media.to_be_bytes());
    for (first, mask) in items {
        out.extend_from_slice(&first.to_be_bytes());
        out.extend_from_slice(&mask.to_be_bytes());
    }
    out
}

/// Builds a PLI (RFC 4585 §6.3.1).
pub fn picture_loss(sender: u32, media: u32) -> Vec<u8> {
    let mut out = vec![0x81, 206, 0, 2];
    out.extend_from_slice(&sender.to_be_bytes());
    out.extend_from_slice(&media.to_be_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_browsers_send() {
        let mut data = vec![0x81, 201, 0, 7, 0, 0, 0, 1];
        data.extend_from_slice(&[0, 0, 0, 9, 128, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5]);
        data.extend_from_slice(&[0x81, 205, 0, 4, 0, 0, 0, 1, 0, 0, 0, 9, 0, 7, 0x80, 1, 0, 50, 0, 0]);
        data.extend_from_slice(&[0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 9]);
        data.extend_from_slice(&[0x84, 206, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 8, 1, 0, 0, 0]);
        data.extend_from_slice(&[0x81, 203, 0, 1, 0, 0, 0, 1]);
        let expected = [
            Feedback::Report { ssrc: 9, fraction_lost: 128, jitter: 3, last_report: 4, delay: 5 },
            Feedback::Nack { ssrc: 9, sequence: 7, mask: 0x8001 },
            Feedback::Nack { ssrc: 9, sequence: 50, mask: 0 },
            Feedback::KeyFrame { ssrc: 9 },
            Feedback::KeyFrame { ssrc: 8 },
            Feedback::Bye,
        ];
        assert_eq!(parse(&data), expected);
    }

    #[test]
    fn a_report_is_well_formed() {
        for name in ["", "a", "abc", "gatehouse"] {
            let report = sender_report(9, 1 << 32, 7, 3, 4, name);
            assert_eq!(report.len() % 4, 0);
            assert_eq!(&report[..4], &[0x80, 200, 0, 6]);
            let length = usize::from(u16::from_be_bytes([report[30], report[31]]));
            assert_eq!(28 + (length + 1) * 4, report.len(), "{name}");
        }
    }

    #[test]
    fn what_publishers_are_sent_can_be_read() {
        assert_eq!(parse(&picture_loss(1, 9)), [Feedback::KeyFrame { ssrc: 9 }]);
        let expected = [
            Feedback::Nack { ssrc: 9, sequence: 65_535, mask: 0b1000_0000_0000_0011 },
            Feedback::Nack { ssrc: 9, sequence: 16, mask: 0 },
        ];
        assert_eq!(parse(&nack(1, 9, &[65_535, 0, 1, 15, 16])), expected);
        let block = ReportBlock {
            ssrc: 9,
            fraction_lost: 5,
            lost: 7,
            highest: 8,
            jitter: 3,
            last_report: 4,
            delay: 6,
        };
        let expected = [Feedback::Report { ssrc: 9, fraction_lost: 5, jitter: 3, last_report: 4, delay: 6 }];
        assert_eq!(parse(&receiver_report(1, &[block], "gatehouse")), expected);
        let report = sender_report(9, 7 << 32 | 5, 3, 0, 0, "x");
        assert_eq!(parse(&report), [Feedback::Sender { ssrc: 9, ntp: 7 << 32 | 5, timestamp: 3 }]);
    }

    proptest! {
        #[test]
        fn garbage_is_harmless(data in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(parse(&data).len() <= MAX_FEEDBACK);
        }
    }
}
