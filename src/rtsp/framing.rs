//! Splits what a camera sends into messages and interleaved packets (RFC 2326 §10.12), and finds the next of them after
//! bytes that are neither. One wrong length or some stray bytes cost what they are in, not the session. Start at
//! [`Splitter::next`].

use bytes::{Bytes, BytesMut};

use super::message::{Head, MAX_BODY, MAX_HEAD, head_length, is_version};

/// The marker of an interleaved packet.
const MARK: u8 = b'$';
/// Marker, channel and length.
const PREFIX: usize = 4;
/// Longest method of a request.
const MAX_METHOD: usize = 32;

/// Something from the camera.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A packet on a channel.
    Packet(u8, Bytes),
    /// A message with its body.
    Message(Head, Bytes),
}

/// What cannot be skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Oversize {
    /// A body that is longer than any SDP.
    #[error("an answer of {0} bytes")]
    Body(usize),
}

/// Splits a stream of bytes.
#[derive(Debug)]
pub struct Splitter {
    channels: [bool; 256],
    /// After garbage, until something has been recognised.
    lost: bool,
    skipped: u64,
}

impl Default for Splitter {
    fn default() -> Self {
        Self { channels: [false; 256], lost: false, skipped: 0 }
    }
}

/// What is at the beginning of the bytes.
enum Start {
    /// More bytes are needed to tell.
    Unknown,
    Packet(usize),
    /// A head of this length.
    Head(usize),
    /// A line break between messages.
    Blank,
    Garbage,
}

impl Splitter {
    /// A channel on which packets are expected. After garbage, only these mark the beginning of a packet.
    pub fn expect(&mut self, channel: u8) {
        self.channels[usize::from(channel)] = true;
    }

    /// Bytes that were skipped so far.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Takes the next item from the beginning of `bytes`; `None` if more are needed.
    ///
    /// # Errors
    /// A message is longer than any that is useful.
    pub fn next(&mut self, bytes: &mut BytesMut) -> Result<Option<Item>, Oversize> {
        loop {
            if self.lost && bytes.first() == Some(&MARK) {
                if bytes.len() <= PREFIX {
                    return Ok(None);
                }
                self.lost = self.packet_at(bytes, 0).is_none();
                if self.lost && !self.skip(bytes) {
                    return Ok(None);
                }
            }
            match start(bytes) {
                Start::Unknown => return Ok(None),
                Start::Blank => drop(bytes.split_to(1)),
                Start::Garbage => {
                    if !self.skip(bytes) {
                        return Ok(None);
                    }
                }
                Start::Packet(length) => {
                    if let Some(at) = self.next_inside(bytes, length) {
                        self.skipped += at as u64;
                        drop(bytes.split_to(at));
                        continue;
                    }
                    self.lost = false;
                    let packet = bytes.split_to(PREFIX + length).freeze();
                    return Ok(Some(Item::Packet(packet[1], packet.slice(PREFIX..))));
                }
                Start::Head(length) => {
                    let Some(head) = Head::parse(&bytes[..length]) else {
                        if !self.skip(bytes) {
                            return Ok(None);
                        }
                        continue;
                    };
                    let body = head.body_length().unwrap_or(0);
                    if body > MAX_BODY {
                        return Err(Oversize::Body(body));
                    }
                    if bytes.len() < length + body {
                        return Ok(None);
                    }
                    self.lost = false;
                    drop(bytes.split_to(length));
                    return Ok(Some(Item::Message(head, bytes.split_to(body).freeze())));
                }
            }
        }
    }

    /// Where the next packet begins, if the length of the first one lies: what follows it is nothing that may follow, and
    /// within it are whole packets.
    fn next_inside(&self, bytes: &[u8], length: usize) -> Option<usize> {
        let end = PREFIX + length;
        let after = bytes.get(end)?;
        if *after == MARK || after.is_ascii_uppercase() || matches!(after, b'\r' | b'\n') {
            return None;
        }
        (1..end).find(|at| {
            let Some(inner) = self.packet_at(bytes, *at) else { return false };
            let next = at + PREFIX + inner;
            bytes.get(next) == Some(&MARK) && next > *at
        })
    }

    /// The length of a packet at a position, if it looks like RTP or RTCP on one of our channels.
    fn packet_at(&self, bytes: &[u8], at: usize) -> Option<usize> {
        let head = bytes.get(at..=at + PREFIX)?;
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let fits = head[0] == MARK && self.channels[usize::from(head[1])] && length >= 8 && head[4] >> 6 == 2;
        fits.then_some(length)
    }

    /// Skips to the next packet or message. `false` if more bytes are needed to tell where it is.
    fn skip(&mut self, bytes: &mut BytesMut) -> bool {
        let found = (1..bytes.len()).find(|at| {
            let rest = &bytes[*at..];
            match rest[0] {
                MARK => rest.len() <= PREFIX || self.packet_at(bytes, *at).is_some(),
                b'R' => b"RTSP/".starts_with(&rest[..rest.len().min(5)]),
                _ => false,
            }
        });
        self.lost = true;
        let at = found.unwrap_or(bytes.len());
        self.skipped += at as u64;
        drop(bytes.split_to(at));
        // At the end of the bytes, what was found is only a beginning.
        bytes.len() > PREFIX
    }
}

fn start(bytes: &[u8]) -> Start {
    match bytes.first() {
        None => Start::Unknown,
        Some(b'\r' | b'\n') => Start::Blank,
        Some(&MARK) => {
            let Some(prefix) = bytes.get(..PREFIX) else { return Start::Unknown };
            let length = usize::from(u16::from_be_bytes([prefix[2], prefix[3]]));
            if bytes.len() < PREFIX + length { Start::Unknown } else { Start::Packet(length) }
        }
        Some(_) if !may_be_message(bytes) => Start::Garbage,
        Some(_) => match head_length(bytes) {
            Some(length) => Start::Head(length),
            None if bytes.len() > MAX_HEAD => Start::Garbage,
            None => Start::Unknown,
        },
    }
}

/// Whether the bytes may be the beginning of a message: `RTSP/`, or a method and a blank.
fn may_be_message(bytes: &[u8]) -> bool {
    let word: &[u8] = bytes.split(|byte| *byte == b' ').next().unwrap_or_default();
    let version = String::from_utf8_lossy(&word[..word.len().min(5)]).into_owned();
    if is_version(&version)
        || (word.len() < 5 && b"rtsp/".starts_with(&version.to_ascii_lowercase().into_bytes()[..]))
    {
        return true;
    }
    word.len() <= MAX_METHOD && word.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtsp::message::First;
    use proptest::prelude::*;

    fn packet(channel: u8, number: u8, length: usize) -> Vec<u8> {
        let mut packet = vec![MARK, channel, (length >> 8) as u8, length as u8, 0x80, 96, 0, number];
        packet.resize(PREFIX + length, 0x11);
        packet
    }

    fn splitter() -> Splitter {
        let mut splitter = Splitter::default();
        splitter.expect(0);
        splitter.expect(1);
        splitter
    }

    /// The numbers of the packets on channel 0, and the messages, in order.
    fn split(stream: &[u8], pieces: &[usize]) -> Vec<String> {
        let (mut splitter, mut bytes, mut found) = (splitter(), BytesMut::new(), Vec::new());
        let mut rest = stream;
        let mut take = |bytes: &mut BytesMut| {
            while let Some(item) = splitter.next(bytes).unwrap() {
                match item {
                    Item::Packet(0, data) if data.first() == Some(&0x80) && data.len() >= 12 => {
                        found.push(data[3].to_string());
                    }
                    Item::Packet(..) => {}
                    Item::Message(Head { first: First::Request { method, .. }, .. }, body) => {
                        found.push(format!("{method}{}", body.len()));
                    }
                    Item::Message(head, body) => found.push(format!("{:?}{}", head.first, body.len())),
                }
            }
        };
        for piece in pieces {
            let (now, later) = rest.split_at((*piece).min(rest.len()));
            bytes.extend_from_slice(now);
            rest = later;
            take(&mut bytes);
        }
        bytes.extend_from_slice(rest);
        take(&mut bytes);
        found
    }

    /// Streams with something odd between packet 1 and packet 2, each followed by packet 3.
    fn odd_streams() -> Vec<(&'static str, Vec<u8>, Vec<String>)> {
        let between: Vec<(&str, Vec<u8>, Option<&str>)> = vec![
            ("nothing", vec![], None),
            ("stray bytes", b"\xde\xad\xbe\xef".repeat(9), None),
            ("NULs", vec![0; 3], None),
            ("a marker among stray bytes", b"\x01\x02$\x00\x00\x10junk".to_vec(), None),
            ("the beginning of a packet", b"\xde\xad\0\xef$\0".to_vec(), None),
            ("line breaks", b"\r\n\r\n\n".to_vec(), None),
            ("an empty packet", vec![MARK, 0, 0, 0], None),
            ("a packet that is longer than it says", [b"$\0\0\x10\0\0" as &[u8], &[b'x'; 40]].concat(), None),
            ("an unknown channel", packet(20, 9, 20), None),
            ("an answer", b"RTSP/1.0 200 OK\r\nCSeq: 4\r\n\r\n".to_vec(), Some("Answer(200)0")),
            (
                "an answer with a body",
                b"RTSP/1.0 200 OK\nContent-Length: 3\n\nabc".to_vec(),
                Some("Answer(200)3"),
            ),
            ("a request", b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n".to_vec(), Some("OPTIONS0")),
            (
                "a packet within an answer",
                b"RTSP/1.0 200 OK\r\nCSeq: $\x02\x00\x08\x80\x62abcdef4\r\n\r\n".to_vec(),
                Some("Answer(200)0"),
            ),
            ("text", b"HELLO world, this is not RTSP\r\n\r\n".to_vec(), None),
        ];
        let build = |(what, odd, message): (&'static str, Vec<u8>, Option<&'static str>)| {
            let stream = [packet(0, 1, 40), odd, packet(0, 2, 40), packet(0, 3, 300)].concat();
            (what, stream, ["1"].into_iter().chain(message).chain(["2", "3"]).map(str::to_owned).collect())
        };
        between.into_iter().map(build).collect()
    }

    #[test]
    fn what_is_odd_costs_itself() {
        for (what, stream, expected) in odd_streams() {
            assert_eq!(split(&stream, &[]), expected, "{what}");
        }
    }

    /// The packets within a packet whose length lies are found, as soon as it is known to lie.
    #[test]
    fn a_length_that_lies_costs_its_packet() {
        let mut lying = packet(0, 1, 40);
        lying[2..4].copy_from_slice(&100u16.to_be_bytes());
        let good: Vec<u8> = (2..9).flat_map(|number| packet(0, number, 40)).collect();
        assert_eq!(split(&[lying, good].concat(), &[]), ["2", "3", "4", "5", "6", "7", "8"]);
    }

    #[test]
    fn bodies_are_bounded() {
        let mut bytes = BytesMut::from(&b"RTSP/1.0 200 OK\r\nContent-Length: 3000000000\r\n\r\n"[..]);
        assert_eq!(splitter().next(&mut bytes), Err(Oversize::Body(3_000_000_000)));
    }

    proptest! {
        /// However the bytes arrive, nothing panics, the buffer is used up or waits for a bounded rest, and whole
        /// streams give the same.
        #[test]
        fn any_split_gives_the_same(pieces in proptest::collection::vec(1usize..50, 0..40)) {
            for (what, stream, expected) in odd_streams() {
                prop_assert_eq!(split(&stream, &pieces), expected, "{}", what);
            }
        }

        #[test]
        fn any_bytes_are_split(stream in proptest::collection::vec(any::<u8>(), 0..2000)) {
            split(&stream, &[7, 100, 3]);
        }
    }
}
