//! Parses the RTP packets of publishers (RFC 3550 §5.1, RFC 8285 §4.2). Pure. The input has been authenticated but is
//! still treated as untrusted. Start at [`Rtp::parse`].

use bytes::Bytes;

/// A parsed RTP packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rtp {
    /// Set on the last packet of a video frame and on the first one of a talk spurt.
    pub marker: bool,
    /// Identifies the codec.
    pub payload_type: u8,
    /// The sequence number.
    pub sequence: u16,
    /// The sampling time, in ticks of the RTP clock.
    pub timestamp: u32,
    /// The sender's SSRC.
    pub ssrc: u32,
    /// The transport-wide sequence number from the header extension, if present.
    pub transport_sequence: Option<u16>,
    /// Without padding; may be empty.
    pub payload: Bytes,
}

impl Rtp {
    /// Parses a packet. `transport_id` is the id of the extension with the transport-wide sequence number.
    pub fn parse(data: &Bytes, transport_id: Option<u8>) -> Option<Self> {
        let &[first, second, high, low] = data.first_chunk::<4>()?;
        if first >> 6 != 2 {
            return None;
        }
        let mut at = 12 + 4 * usize::from(first & 0x0f);
        let mut transport_sequence = None;
        if first & 0x10 != 0 {
            let (profile, words) = (half(data, at)?, usize::from(half(data, at + 2)?));
            let extensions = data.get(at + 4..at + 4 + 4 * words)?;
            if let (0xbede, Some(id)) = (profile, transport_id) {
                transport_sequence = extension(extensions, id).and_then(|value| half(value, 0));
            }
            at += 4 + 4 * words;
        }
        let mut end = data.len();
        if first & 0x20 != 0 {
            end = end.checked_sub(usize::from(*data.last()?))?;
        }
        if at > end {
            return None;
        }
        Some(Self {
            marker: second & 0x80 != 0,
            payload_type: second & 0x7f,
            sequence: u16::from_be_bytes([high, low]),
            timestamp: word(data, 4)?,
            ssrc: word(data, 8)?,
            transport_sequence,
            payload: data.slice(at..end),
        })
    }
}

/// The value of an extension with a one-byte header.
fn extension(mut data: &[u8], wanted: u8) -> Option<&[u8]> {
    while let Some((&head, rest)) = data.split_first() {
        let (id, length) = (head >> 4, usize::from(head & 0x0f) + 1);
        match id {
            // Padding is a single byte without a length.
            0 => data = rest,
            15 => return None,
            id if id == wanted => return rest.get(..length),
            _ => data = rest.get(length..)?,
        }
    }
    None
}

fn half(data: &[u8], at: usize) -> Option<u16> {
    data.get(at..at + 2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
}

/// The big-endian 32-bit word at an offset, such as the SSRC of a packet that is not decrypted yet.
pub fn word(data: &[u8], at: usize) -> Option<u32> {
    data.get(at..at + 4).map(|bytes| u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_extensions_and_padding() {
        let mut data = vec![0xb0, 0xe0, 0x12, 0x34, 0, 0, 0, 9, 0, 0, 0, 7];
        // One-byte extensions: 1 with 3 bytes, padding, 5 with 2 bytes.
        data.extend_from_slice(&[0xbe, 0xde, 0, 2, 0x12, 1, 2, 3, 0x51, 0xab, 0xcd, 0]);
        data.extend_from_slice(b"payload");
        data.extend_from_slice(&[0, 0, 3]);
        let rtp = Rtp::parse(&data.clone().into(), Some(5)).unwrap();
        let expected = Rtp {
            marker: true,
            payload_type: 96,
            sequence: 0x1234,
            timestamp: 9,
            ssrc: 7,
            transport_sequence: Some(0xabcd),
            payload: Bytes::from_static(b"payload"),
        };
        assert_eq!(rtp, expected);
        assert_eq!(Rtp::parse(&data.clone().into(), None).unwrap().transport_sequence, None);
        *data.last_mut().unwrap() = 200;
        assert_eq!(Rtp::parse(&data.into(), Some(5)), None, "more padding than packet");
    }

    proptest! {
        #[test]
        fn garbage_is_harmless(data in prop::collection::vec(any::<u8>(), 0..60), id in 1u8..15) {
            Rtp::parse(&data.into(), Some(id));
        }
    }
}
