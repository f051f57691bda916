//! Transport-wide feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01): the arrival time of each packet of a
//! publisher, from which its browser estimates the available bandwidth. Pure. Start at [`Twcc::feedback`].

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The unit of arrival times.
const TICK: Duration = Duration::from_micros(250);
/// Ticks in the unit of the reference time, 64 ms.
const REFERENCE: i64 = 256;
/// Packets per feedback message: 50 ms at 40 Mbit/s, and they fit into one datagram.
const MAX_PACKETS: i64 = 256;

/// See the module.
pub struct Twcc {
    start: Instant,
    newest: Option<i64>,
    /// The first sequence number of the next feedback message.
    next: Option<i64>,
    /// Arrivals not reported yet, in ticks since the start.
    arrivals: BTreeMap<i64, i64>,
    count: u8,
}

impl Twcc {
    /// Starts with no arrivals.
    pub fn new(now: Instant) -> Self {
        Self { start: now, newest: None, next: None, arrivals: BTreeMap::new(), count: 0 }
    }

    /// Records the arrival of a packet.
    pub fn record(&mut self, now: Instant, sequence: u16) {
        let newest = *self.newest.get_or_insert(i64::from(sequence) + 0x1_0000);
        let number = newest + i64::from(sequence.wrapping_sub(newest as u16) as i16);
        if self.next.is_some_and(|next| number < next) {
            // Already reported as missing; reporting its late arrival would be useless.
            return;
        }
        self.newest = Some(newest.max(number));
        let ticks = now.saturating_duration_since(self.start).as_micros() / TICK.as_micros();
        self.arrivals.entry(number).or_insert(ticks as i64);
        while self.arrivals.len() > 4 * MAX_PACKETS as usize {
            self.arrivals.pop_first();
        }
    }

    /// The next feedback message, if there is something to report.
    pub fn feedback(&mut self, sender: u32, media: u32) -> Option<Vec<u8>> {
        let (&first, _) = self.arrivals.first_key_value()?;
        let (&last, _) = self.arrivals.last_key_value()?;
        // Packets missing before the first arrival are reported, unless there are so many that the numbers jumped.
        let base = self.next.filter(|next| first - next < MAX_PACKETS).unwrap_or(first);
        let end = (last + 1).min(base + MAX_PACKETS);
        let reference = self.arrivals.range(base..end).next()?.1.div_euclid(REFERENCE);
        let mut previous = reference * REFERENCE;
        let mut symbols = Vec::new();
        let mut deltas = Vec::new();
        let mut told = base;
        for number in base..end {
            let symbol = match self.arrivals.get(&number) {
                None => 0,
                Some(&at) => {
                    let delta = at - previous;
                    previous = at;
                    match (u8::try_from(delta), i16::try_from(delta)) {
                        (Ok(small), _) => {
                            deltas.push(small);
                            1
                        }
                        (_, Ok(large)) => {
                            deltas.extend_from_slice(&large.to_be_bytes());
                            2
                        }
                        // The pause does not fit into a delta: the next feedback begins with this packet.
                        _ => break,
                    }
                }
            };
            symbols.push(symbol);
            told = number + 1;
        }
        self.next = Some(told);
        self.arrivals = self.arrivals.split_off(&told);
        self.count = self.count.wrapping_add(1);
        Some(write(
            sender,
            media,
            base as u16,
            reference as u32,
            self.count.wrapping_sub(1),
            &symbols,
            &deltas,
        ))
    }
}

fn write(
    sender: u32,
    media: u32,
    base: u16,
    reference: u32,
    count: u8,
    symbols: &[u16],
    deltas: &[u8],
) -> Vec<u8> {
    let mut out = vec![0x8f, 205, 0, 0];
    out.extend_from_slice(&sender.to_be_bytes());
    out.extend_from_slice(&media.to_be_bytes());
    out.extend_from_slice(&base.to_be_bytes());
    out.extend_from_slice(&(symbols.len() as u16).to_be_bytes());
    out.extend_from_slice(&reference.to_be_bytes()[1..]);
    out.push(count);
    // Status vectors of seven two-bit symbols: not the shortest encoding, but always a valid one.
    for chunk in symbols.chunks(7) {
        let bits =
            chunk.iter().enumerate().fold(0xc000, |bits, (place, symbol)| bits | symbol << (12 - 2 * place));
        out.extend_from_slice(&u16::to_be_bytes(bits));
    }
    out.extend_from_slice(deltas);
    let padding = out.len().next_multiple_of(4) - out.len();
    if padding > 0 {
        out.resize(out.len() + padding - 1, 0);
        out.push(padding as u8);
        out[0] |= 0x20;
    }
    let words = (out.len() / 4 - 1) as u16;
    out[2..4].copy_from_slice(&words.to_be_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rtc::rtcp::transport_feedbacks::transport_layer_cc::{
        PacketStatusChunk, SymbolTypeTcc, TransportLayerCc,
    };
    use rtc::shared::marshal::Unmarshal;

    /// The content of a feedback message: received sequence numbers with their arrival times in µs.
    fn read(data: &[u8]) -> Vec<(u16, i64)> {
        let feedback = TransportLayerCc::unmarshal(&mut &data[..]).unwrap();
        let mut symbols = Vec::new();
        for chunk in &feedback.packet_chunks {
            match chunk {
                PacketStatusChunk::StatusVectorChunk(vector) => symbols.extend(vector.symbol_list.clone()),
                PacketStatusChunk::RunLengthChunk(_) => unreachable!("never written"),
            }
        }
        symbols.truncate(usize::from(feedback.packet_status_count));
        let mut deltas = feedback.recv_deltas.iter();
        let mut time = i64::from(feedback.reference_time) * 64_000;
        let mut found = Vec::new();
        for (offset, symbol) in symbols.iter().enumerate() {
            if *symbol != SymbolTypeTcc::PacketNotReceived {
                time += deltas.next().unwrap().delta;
                found.push((feedback.base_sequence_number.wrapping_add(offset as u16), time));
            }
        }
        assert!(deltas.next().is_none());
        found
    }

    #[test]
    fn tells_what_came_when_and_what_did_not() {
        let start = Instant::now();
        let at = |us: u64| start + Duration::from_micros(us);
        let mut twcc = Twcc::new(start);
        assert_eq!(twcc.feedback(1, 2), None);
        for (sequence, us) in [(65_534, 1_000), (65_535, 1_250), (1, 200_000), (0, 199_000), (1, 300_000)] {
            twcc.record(at(us), sequence);
        }
        let feedback = twcc.feedback(1, 2).unwrap();
        let expected = [(65_534, 1_000), (65_535, 1_250), (0, 199_000), (1, 200_000)];
        assert_eq!(read(&feedback), expected);
        assert_eq!(twcc.feedback(1, 2), None, "everything is reported");
        // 2 is lost and reported as such, because the base is 2.
        twcc.record(at(400_000), 3);
        let feedback = twcc.feedback(1, 2).unwrap();
        assert_eq!(u16::from_be_bytes([feedback[12], feedback[13]]), 2);
        assert_eq!(read(&feedback), [(3, 400_000)]);
        // A pause too long for a delta.
        twcc.record(at(500_000), 4);
        twcc.record(at(20_000_000), 5);
        assert_eq!(read(&twcc.feedback(1, 2).unwrap()), [(4, 500_000)]);
        assert_eq!(read(&twcc.feedback(1, 2).unwrap()), [(5, 20_000_000)]);
    }

    proptest! {
        #[test]
        fn everything_is_told_once(steps in prop::collection::vec((0u16..40, 0u64..100_000), 1..300)) {
            let start = Instant::now();
            let mut twcc = Twcc::new(start);
            let (mut now, mut sequence) = (start, 65_000u16);
            let mut told = 0;
            for (number, (skip, pause)) in steps.iter().enumerate() {
                sequence = sequence.wrapping_add(1 + skip);
                now += Duration::from_micros(*pause);
                twcc.record(now, sequence);
                if number % 7 == 0 {
                    told += twcc.feedback(1, 2).map_or(0, |feedback| read(&feedback).len());
                }
            }
            while let Some(feedback) = twcc.feedback(1, 2) {
                told += read(&feedback).len();
            }
            prop_assert_eq!(told, steps.len());
        }
    }
}
