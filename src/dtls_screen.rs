//! What a DTLS 1.2 datagram must look like before rtc's DTLS sees it. rtc-dtls 0.21 reassembles handshake messages
//! by recursion, keeps fragments by the megabyte, and queues records of the next epoch without a bound, so
//! fragments end here: messages are reassembled in bounded space and handed on whole. The screen decrypts and
//! verifies nothing. Pure. Start at [`Screen::admit`].
//!
//! Used for viewers and publishers (`media::transport::dtls`) and for WHEP servers as cameras (`streams::whep`).

use std::collections::BTreeMap;

/// A record's header: type, version, epoch, sequence number, length (RFC 6347 §4.1).
const RECORD_HEADER: usize = 13;
/// A handshake message's header: type, length, message number, fragment offset, fragment length (§4.2.2).
const MESSAGE_HEADER: usize = 12;
/// A handshake message: a certificate chain is the longest.
const MAX_MESSAGE: usize = 16 * 1024;
/// Messages of one side: a client sends six, a server eight at most.
const MAX_MESSAGES: u16 = 16;
/// Fragments of one message, repeated ones included.
const MAX_FRAGMENTS: u8 = 32;
/// Bytes of all messages that are incomplete at a time.
const MAX_INCOMPLETE: usize = 32 * 1024;
/// Datagrams and bytes of an unfinished handshake. On a good path it takes ten, and each retransmission three.
const MAX_DATAGRAMS: u32 = 128;
const MAX_BYTES: usize = 128 * 1024;
/// Messages that were complete before and come again: the peer has missed our flight.
const MAX_REPEATS: u32 = 24;
const MAX_REPEATED_BYTES: usize = 32 * 1024;
/// ChangeCipherSpec records: one a flight.
const MAX_CIPHER_CHANGES: u32 = 8;
/// Encrypted handshake records (Finished): one a flight, for the whole life of the connection.
const MAX_ENCRYPTED: u32 = 16;
/// An encrypted Finished or alert has less than 100 bytes.
const MAX_ENCRYPTED_RECORD: usize = 1024;

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;

/// See the module: one for each peer.
#[derive(Debug, Default)]
pub struct Screen {
    incomplete: BTreeMap<u16, Message>,
    /// One bit for each message number.
    complete: u16,
    connected: bool,
    datagrams: u32,
    bytes: usize,
    repeats: u32,
    repeated_bytes: usize,
    cipher_changes: u32,
    encrypted: u32,
}

/// A handshake message of which fragments have come.
#[derive(Debug)]
struct Message {
    kind: u8,
    data: Vec<u8>,
    /// Ranges of `data` that are filled: in order, apart from each other.
    filled: Vec<(usize, usize)>,
    fragments: u8,
}

/// A handshake message's header and the fragment behind it.
struct Fragment<'a> {
    kind: u8,
    length: usize,
    number: u16,
    offset: usize,
    data: &'a [u8],
}

impl Screen {
    /// The handshake is done: from now on only repeated flights and alerts pass.
    pub fn connected(&mut self) {
        self.connected = true;
        self.incomplete.clear();
    }

    /// How many messages have come again.
    pub fn repeats(&self) -> u32 {
        self.repeats
    }

    /// Takes a datagram from outside; returns what may be handed on, with all handshake messages whole. `None` if
    /// nothing of it is of use, or if it contradicts itself or exceeds a limit.
    pub fn admit(&mut self, datagram: &[u8]) -> Option<Vec<u8>> {
        if !self.connected {
            self.datagrams += 1;
            self.bytes += datagram.len();
            if self.datagrams > MAX_DATAGRAMS || self.bytes > MAX_BYTES {
                return None;
            }
        }
        let mut out = Vec::new();
        let mut rest = datagram;
        while !rest.is_empty() {
            let header = rest.first_chunk::<RECORD_HEADER>()?;
            let length = usize::from(u16::from_be_bytes([header[11], header[12]]));
            let record = rest.get(..RECORD_HEADER + length)?;
            rest = &rest[record.len()..];
            let epoch = u16::from_be_bytes([header[3], header[4]]);
            // DTLS 1.2, or 1.0 as a ClientHello's first record may say (RFC 6347 §4.2.1).
            if !matches!((header[1], header[2]), (0xfe, 0xfd | 0xff)) {
                return None;
            }
            match (header[0], epoch) {
                (HANDSHAKE, 0) => self.handshake(record, &mut out)?,
                (kind, 0 | 1) if self.may_pass(kind, epoch, length) => out.extend_from_slice(record),
                // Application data, which nobody here has, and everything else: discarded (§4.1.2.7).
                _ => {}
            }
        }
        (!out.is_empty()).then_some(out)
    }

    /// Whether a record passes as it is.
    fn may_pass(&mut self, kind: u8, epoch: u16, length: usize) -> bool {
        let (count, limit) = match (kind, epoch) {
            (CHANGE_CIPHER_SPEC, 0) if !self.connected && length == 1 => {
                (&mut self.cipher_changes, MAX_CIPHER_CHANGES)
            }
            (ALERT, 0) => return !self.connected && length == 2,
            (ALERT, 1) if self.connected => return length <= MAX_ENCRYPTED_RECORD,
            // Before the end of the handshake rtc queues them: they count like Finished.
            (ALERT | HANDSHAKE, 1) if length <= MAX_ENCRYPTED_RECORD => (&mut self.encrypted, MAX_ENCRYPTED),
            _ => return false,
        };
        *count += 1;
        *count <= limit
    }

    /// Takes the fragments of a record; appends a record with the messages that have become whole.
    fn handshake(&mut self, record: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let (header, mut rest) = record.split_at(RECORD_HEADER);
        let mut whole = Vec::new();
        while !rest.is_empty() {
            let (fragment, behind) = fragment(rest)?;
            let raw = &rest[..rest.len() - behind.len()];
            rest = behind;
            if self.complete >> fragment.number & 1 == 1 {
                self.repeats += 1;
                self.repeated_bytes += raw.len();
                // Before the end rtc has the message, and would stop its retransmission timer: a flight of ours that is
                // lost would never be sent again. After the end it answers a repeated flight with its last one.
                let is_of_use = self.connected;
                if is_of_use && self.repeats <= MAX_REPEATS && self.repeated_bytes <= MAX_REPEATED_BYTES {
                    whole.extend_from_slice(raw);
                }
            } else if !self.connected
                && let Some(message) = self.collect(&fragment)?
            {
                whole.extend_from_slice(&message);
            }
        }
        if !whole.is_empty() {
            let length = u16::try_from(whole.len()).ok()?;
            out.extend_from_slice(&header[..11]);
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(&whole);
        }
        Some(())
    }

    /// Adds a fragment to its message: `Some(Some(…))` if that is whole now, `None` if the fragment is refused.
    fn collect(&mut self, fragment: &Fragment<'_>) -> Option<Option<Vec<u8>>> {
        let others: usize = self.incomplete.values().map(|message| message.data.len()).sum();
        let message = self.incomplete.entry(fragment.number).or_insert_with(|| Message {
            kind: fragment.kind,
            data: Vec::new(),
            filled: Vec::new(),
            fragments: 0,
        });
        if message.fragments == 0 {
            if others + fragment.length > MAX_INCOMPLETE {
                self.incomplete.remove(&fragment.number);
                return None;
            }
            message.data = vec![0; fragment.length];
        }
        if message.kind != fragment.kind
            || message.data.len() != fragment.length
            || message.fragments == MAX_FRAGMENTS
        {
            return None;
        }
        message.fragments += 1;
        message.fill(fragment.offset, fragment.data);
        if !message.is_whole() {
            return Some(None);
        }
        self.complete |= 1 << fragment.number;
        let message = self.incomplete.remove(&fragment.number)?;
        let length = &(message.data.len() as u32).to_be_bytes()[1..];
        let mut whole = Vec::with_capacity(MESSAGE_HEADER + message.data.len());
        whole.push(message.kind);
        whole.extend_from_slice(length);
        whole.extend_from_slice(&fragment.number.to_be_bytes());
        whole.extend_from_slice(&[0, 0, 0]);
        whole.extend_from_slice(length);
        whole.extend_from_slice(&message.data);
        Some(Some(whole))
    }
}

impl Message {
    /// Fragments may overlap (RFC 6347 §4.2.3).
    fn fill(&mut self, offset: usize, data: &[u8]) {
        let (mut start, mut end) = (offset, offset + data.len());
        self.data[start..end].copy_from_slice(data);
        self.filled.retain(|&(from, to)| {
            let apart = to < start || from > end;
            if !apart {
                (start, end) = (start.min(from), end.max(to));
            }
            apart
        });
        let place = self.filled.partition_point(|(from, _)| *from < start);
        self.filled.insert(place, (start, end));
    }

    fn is_whole(&self) -> bool {
        self.filled == [(0, self.data.len())]
    }
}

/// Reads a fragment that lies within its message, and what follows it in the record.
fn fragment(data: &[u8]) -> Option<(Fragment<'_>, &[u8])> {
    let header = data.first_chunk::<MESSAGE_HEADER>()?;
    let number24 = |at: usize| {
        usize::from(header[at]) << 16 | usize::from(header[at + 1]) << 8 | usize::from(header[at + 2])
    };
    let (length, offset, fragment_length) = (number24(1), number24(6), number24(9));
    let number = u16::from_be_bytes([header[4], header[5]]);
    let body = data.get(MESSAGE_HEADER..MESSAGE_HEADER + fragment_length)?;
    // An empty fragment of a message that is not empty brings nothing.
    let sound = length <= MAX_MESSAGE
        && number < MAX_MESSAGES
        && offset + fragment_length <= length
        && (fragment_length > 0 || length == 0);
    let fragment = Fragment { kind: header[0], length, number, offset, data: body };
    sound.then_some((fragment, &data[MESSAGE_HEADER + fragment_length..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(kind: u8, epoch: u16, sequence: u64, body: &[u8]) -> Vec<u8> {
        let mut record = vec![kind, 0xfe, 0xfd];
        record.extend_from_slice(&epoch.to_be_bytes());
        record.extend_from_slice(&sequence.to_be_bytes()[2..]);
        record.extend_from_slice(&(body.len() as u16).to_be_bytes());
        record.extend_from_slice(body);
        record
    }

    fn fragment(number: u16, length: usize, offset: usize, body: &[u8]) -> Vec<u8> {
        let mut out = vec![11];
        let number24 = |value: usize, out: &mut Vec<u8>| {
            out.extend_from_slice(&(value as u32).to_be_bytes()[1..]);
        };
        number24(length, &mut out);
        out.extend_from_slice(&number.to_be_bytes());
        number24(offset, &mut out);
        number24(body.len(), &mut out);
        out.extend_from_slice(body);
        out
    }

    fn handshake(number: u16, length: usize, offset: usize, body: &[u8]) -> Vec<u8> {
        record(22, 0, u64::from(number) * 100 + offset as u64, &fragment(number, length, offset, body))
    }

    #[test]
    fn whole_messages_pass_as_they_are() {
        let mut screen = Screen::default();
        let body = [fragment(0, 3, 0, b"abc"), fragment(1, 0, 0, b"")].concat();
        let datagram = [record(22, 0, 7, &body), record(20, 0, 8, &[1]), record(22, 1, 0, &[9; 40])].concat();
        assert_eq!(screen.admit(&datagram), Some(datagram));
    }

    #[test]
    fn fragments_become_one_message_in_any_order() {
        let whole: Vec<u8> = (0..100u8).collect();
        let parts = [(0, 40), (70, 100), (30, 60), (60, 70)];
        let mut screen = Screen::default();
        let mut found = None;
        for (from, to) in parts {
            assert_eq!(found, None);
            found = screen.admit(&handshake(3, 100, from, &whole[from..to]));
        }
        assert_eq!(found.unwrap()[RECORD_HEADER..], fragment(3, 100, 0, &whole));
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let refused = [
            handshake(0, 10, 8, b"abc"),
            handshake(0, MAX_MESSAGE + 1, 0, b"abc"),
            handshake(MAX_MESSAGES, 3, 0, b"abc"),
            handshake(0, 10, 3, b""),
            record(22, 0, 1, &[1, 0, 0]),
            record(22, 0, 1, &fragment(0, 3, 0, b"abc")[..14]),
            record(22, 0, 1, b"x")[..8].to_vec(),
            vec![22, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            record(23, 0, 1, b"data"),
            record(23, 1, 1, b"data"),
            record(24, 0, 1, b"heartbeat"),
            record(22, 2, 1, b"future"),
            record(22, 1, 1, &[0; MAX_ENCRYPTED_RECORD + 1]),
        ];
        for datagram in refused {
            assert_eq!(Screen::default().admit(&datagram), None, "{datagram:?}");
        }
        // A length or type that changes.
        let mut screen = Screen::default();
        assert_eq!(screen.admit(&handshake(0, 4, 0, b"ab")), None);
        assert_eq!(screen.admit(&handshake(0, 5, 2, b"cd")), None);
        let mut other = handshake(0, 4, 2, b"cd");
        other[RECORD_HEADER] = 12;
        assert_eq!(screen.admit(&other), None);
        assert!(screen.admit(&handshake(0, 4, 2, b"cd")).is_some(), "the message itself goes on");
    }

    /// The attack that overflowed rtc-dtls' stack: fragments of one byte, the first one last.
    #[test]
    fn a_thousand_fragments_of_one_byte_are_refused() {
        let mut screen = Screen::default();
        for offset in 1..1000 {
            assert_eq!(screen.admit(&handshake(0, 1000, offset, b"x")), None);
        }
        assert_eq!(screen.admit(&handshake(0, 1000, 0, b"x")), None);
        assert!(screen.incomplete[&0].fragments <= MAX_FRAGMENTS);
    }

    #[test]
    fn everything_that_rtc_would_keep_is_bounded() {
        let count = |mut screen: Screen, datagram: &dyn Fn(u64) -> Vec<u8>| {
            (0..100_000u64).filter_map(|n| screen.admit(&datagram(n))).map(|out| out.len()).sum::<usize>()
        };
        let connected = || {
            let mut screen = Screen::default();
            screen.admit(&handshake(0, 3, 0, b"abc")).unwrap();
            screen.connected();
            screen
        };
        for screen in [Screen::default, connected] {
            let passed = [
                count(screen(), &|n| record(22, 1, n, &[7; 900])),
                count(screen(), &|n| record(20, 0, n, &[1])),
                count(screen(), &|n| record(22, 0, n, &fragment(0, 3, 0, b"abc"))),
                count(screen(), &|n| record(22, 0, n, &fragment((n % 16) as u16, 16_000, 0, &[1; 1000]))),
                count(screen(), &|n| record(22, 0, n, &fragment((n % 16) as u16, 1000, 0, &[1; 1000]))),
            ];
            assert!(passed.iter().all(|bytes| *bytes < 64 * 1024), "{passed:?}");
        }
        let mut screen = Screen::default();
        for n in 0..16 {
            screen.admit(&record(22, 0, n, &fragment(n as u16, 16_000, 0, &[1; 1000])));
        }
        let kept: usize = screen.incomplete.values().map(|message| message.data.len()).sum();
        assert!(kept <= MAX_INCOMPLETE, "{kept}");
    }

    #[test]
    fn after_the_handshake_repeats_and_alerts_pass() {
        let mut screen = Screen::default();
        let flight =
            [handshake(0, 3, 0, b"abc"), record(20, 0, 5, &[1]), record(22, 1, 0, &[9; 40])].concat();
        assert!(screen.admit(&flight).is_some());
        screen.connected();
        let again = screen.admit(&flight).unwrap();
        assert_eq!(again, [handshake(0, 3, 0, b"abc"), record(22, 1, 0, &[9; 40])].concat());
        let alert = record(21, 1, 1, &[3; 30]);
        assert_eq!(screen.admit(&alert), Some(alert));
        // A plaintext alert is anybody's.
        assert_eq!(screen.admit(&record(21, 0, 1, &[1, 0])), None);
    }

    proptest! {
        #[test]
        fn reassembly_is_exact(
            body in prop::collection::vec(any::<u8>(), 1..2000),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
            order in any::<prop::sample::Index>(),
        ) {
            let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
            places.extend([0, body.len()]);
            places.sort_unstable();
            places.dedup();
            let mut parts: Vec<(usize, usize)> = places.windows(2).map(|pair| (pair[0], pair[1])).collect();
            let turn = order.index(parts.len());
            parts.rotate_left(turn);
            let mut screen = Screen::default();
            let out: Vec<Vec<u8>> = parts
                .iter()
                .filter_map(|(from, to)| screen.admit(&handshake(2, body.len(), *from, &body[*from..*to])))
                .collect();
            prop_assert_eq!(out.len(), 1);
            prop_assert_eq!(&out[0][RECORD_HEADER..], &fragment(2, body.len(), 0, &body)[..]);
        }

        #[test]
        fn anything_is_survived(datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..40)) {
            let mut screen = Screen::default();
            for mut datagram in datagrams {
                if let Some(head) = datagram.first_chunk_mut::<3>() {
                    *head = [20 + head[0] % 5, 0xfe, 0xfd];
                }
                if let Some(admitted) = screen.admit(&datagram) {
                    prop_assert!(admitted.len() <= MAX_INCOMPLETE + datagram.len());
                }
            }
        }
    }
}
