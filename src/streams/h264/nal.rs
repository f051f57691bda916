//! NAL units: their types, and the RTP payloads of RFC 6184 that carry them. Stateless. Start at [`pieces`].

use bytes::Bytes;

/// `nal_unit_type`, ITU-T H.264 table 7-1, reduced to what matters here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NalType {
    /// A slice of a non-IDR picture (1), or one of its data partitions (2 to 4).
    Slice,
    /// A slice of an IDR picture (5).
    Idr,
    /// Supplemental enhancement information (6).
    Sei,
    /// Sequence parameter set (7).
    Sps,
    /// Picture parameter set (8).
    Pps,
    /// Access unit delimiter (9), end of sequence (10), end of stream (11), filler data (12): not needed here.
    Padding,
    /// Everything else: passed through.
    Other,
}

impl NalType {
    /// From a NAL unit's first byte, or an FU header.
    pub fn of(header: u8) -> Self {
        match header & 0x1f {
            1..=4 => Self::Slice,
            5 => Self::Idr,
            6 => Self::Sei,
            7 => Self::Sps,
            8 => Self::Pps,
            9..=12 => Self::Padding,
            _ => Self::Other,
        }
    }

    /// Whether it carries picture data.
    pub fn is_picture(self) -> bool {
        matches!(self, Self::Slice | Self::Idr)
    }
}

/// A piece of a NAL unit as one RTP payload holds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Piece {
    /// A whole NAL unit with its header.
    Whole(Bytes),
    /// A fragment (FU-A), with the reconstructed NAL header.
    Fragment {
        /// The NAL unit's header byte.
        header: u8,
        /// The NAL unit starts here.
        first: bool,
        /// The NAL unit ends here.
        last: bool,
        /// The fragment's bytes, without any header.
        data: Bytes,
    },
}

/// Why a payload could not be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PayloadError {
    /// Empty, or a length points past its end.
    #[error("the payload is truncated")]
    Truncated,
    /// A packet type of the interleaved mode, which is never negotiated (RFC 6184 §5.4).
    #[error("RTP payload type {0} of RFC 6184 is not supported")]
    Unsupported(u8),
}

/// Whether an SEI unit has a recovery point message (ITU-T H.264 §D.1.8): payload type 6.
pub fn is_recovery_point(nal: &[u8]) -> bool {
    let mut rest = nal.get(1..).unwrap_or_default();
    // Types and sizes are in bytes of 255 and one that is smaller (§7.3.2.3.1).
    let number = |rest: &mut &[u8]| {
        let mut sum = 0usize;
        loop {
            let (&byte, after) = rest.split_first()?;
            *rest = after;
            sum += usize::from(byte);
            if byte != 255 {
                return Some(sum);
            }
        }
    };
    // What is left at the end is the stop bit.
    while rest.len() > 1 {
        let (Some(kind), Some(size)) = (number(&mut rest), number(&mut rest)) else { return false };
        if kind == 6 {
            return true;
        }
        rest = rest.get(size..).unwrap_or_default();
    }
    false
}

const STAP_A: u8 = 24;
const FU_A: u8 = 28;

/// Splits an RTP payload into its NAL units, or the fragment of one (RFC 6184 §5.2).
pub fn pieces(payload: &Bytes) -> Result<Vec<Piece>, PayloadError> {
    let &first = payload.first().ok_or(PayloadError::Truncated)?;
    match first & 0x1f {
        1..=23 => Ok(vec![Piece::Whole(payload.clone())]),
        // Some cameras leave the start code in front of the unit.
        0 if payload.starts_with(&[0, 0, 1]) || payload.starts_with(&[0, 0, 0, 1]) => {
            Ok(vec![Piece::Whole(payload.clone())])
        }
        STAP_A => aggregate(payload),
        FU_A => fragment(payload).map(|piece| vec![piece]),
        other => Err(PayloadError::Unsupported(other)),
    }
}

fn aggregate(payload: &Bytes) -> Result<Vec<Piece>, PayloadError> {
    let mut pieces = Vec::new();
    let mut at = 1;
    while at < payload.len() {
        let length = payload.get(at..at + 2).ok_or(PayloadError::Truncated)?;
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        at += 2;
        if length == 0 {
            continue;
        }
        if at + length > payload.len() {
            return Err(PayloadError::Truncated);
        }
        pieces.push(Piece::Whole(payload.slice(at..at + length)));
        at += length;
    }
    Ok(pieces)
}

fn fragment(payload: &Bytes) -> Result<Piece, PayloadError> {
    let (indicator, header) = match payload[..] {
        [indicator, header, _, ..] => (indicator, header),
        _ => return Err(PayloadError::Truncated),
    };
    Ok(Piece::Fragment {
        header: (indicator & 0xe0) | (header & 0x1f),
        first: header & 0x80 != 0,
        last: header & 0x40 != 0,
        data: payload.slice(2..),
    })
}

/// Builds a STAP-A from these NAL units (RFC 6184 §5.7.1).
pub fn stap_a(nals: &[Bytes]) -> Vec<u8> {
    let reference = nals.iter().filter_map(|nal| nal.first()).map(|header| header & 0x60).max();
    let size = 1 + nals.iter().map(|nal| nal.len() + 2).sum::<usize>();
    let mut out = Vec::with_capacity(size);
    out.push(reference.unwrap_or(0) | STAP_A);
    for nal in nals {
        // Cannot overflow: callers only bundle parameter sets of limited size.
        out.extend_from_slice(&(nal.len() as u16).to_be_bytes());
        out.extend_from_slice(nal);
    }
    out
}

/// The two bytes before a fragment's data (RFC 6184 §5.8).
pub fn fu_a_header(nal_header: u8, first: bool, last: bool) -> [u8; 2] {
    let start = if first { 0x80 } else { 0 };
    let end = if last { 0x40 } else { 0 };
    [(nal_header & 0xe0) | FU_A, start | end | (nal_header & 0x1f)]
}

/// Whether there is a start code in a unit: emulation prevention keeps it out of everything else (ITU-T H.264 §7.4.1).
pub fn has_start_code(nal: &[u8]) -> bool {
    let mut at = 2;
    while let Some(&byte) = nal.get(at) {
        match byte {
            0 => at += 1,
            1 if nal[at - 1] == 0 && nal[at - 2] == 0 => return true,
            _ => at += 3,
        }
    }
    false
}

/// The units in a payload or fragmented unit of a camera that leaves start codes in them, leading or between.
pub fn split_at_start_codes(joined: &Bytes) -> Vec<Bytes> {
    let first = joined.windows(3).position(|window| window == [0, 0, 1]).unwrap_or(joined.len());
    let lead = joined[..first].iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let lead = (lead > 0).then(|| joined.slice(..lead));
    lead.into_iter().chain(annex_b(&joined.slice(first..))).collect()
}

/// The NAL units of an Annex-B byte stream, without their start codes (ITU-T H.264 annex B).
pub fn annex_b(stream: &Bytes) -> Vec<Bytes> {
    let mut starts = Vec::new();
    let mut at = 0;
    while at + 3 <= stream.len() {
        if stream[at..at + 3] == [0, 0, 1] {
            starts.push(at);
            at += 3;
        } else {
            at += 1;
        }
    }
    let ends = starts.iter().skip(1).copied().chain([stream.len()]);
    let nals = starts.iter().zip(ends).map(|(&start, end)| {
        let mut end = end;
        while end > start + 3 && stream[end - 1] == 0 {
            end -= 1;
        }
        stream.slice(start + 3..end)
    });
    nals.filter(|nal| !nal.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(data: &[u8]) -> Bytes {
        Bytes::copy_from_slice(data)
    }

    #[test]
    fn recovery_points() {
        assert!(is_recovery_point(&[6, 6, 1, 0xc4, 0x80]));
        // After a user data message of 300 bytes.
        let mut long = vec![6, 5, 255, 45];
        long.extend([7; 300]);
        assert!(!is_recovery_point(&long));
        long.extend([6, 1, 0xc4, 0x80]);
        assert!(is_recovery_point(&long));
        for other in [&[][..], &[6], &[6, 255, 255], &[6, 1, 6, 6, 0x80], &[6, 1, 200, 6, 1, 0]] {
            assert!(!is_recovery_point(other), "{other:?}");
        }
    }

    #[test]
    fn reads_each_payload_type() {
        let whole = |data: &[u8]| Piece::Whole(bytes(data));
        let fu =
            |header, first, last, data: &[u8]| Piece::Fragment { header, first, last, data: bytes(data) };
        type Row<'a> = (&'a [u8], Result<Vec<Piece>, PayloadError>);
        let table: &[Row<'_>] = &[
            (&[0x65, 1, 2], Ok(vec![whole(&[0x65, 1, 2])])),
            (&[0x78, 0, 2, 0x67, 1, 0, 1, 0x68], Ok(vec![whole(&[0x67, 1]), whole(&[0x68])])),
            (&[0x78], Ok(vec![])),
            (&[0x78, 0, 0, 0, 1, 9], Ok(vec![whole(&[9])])),
            (&[0x7c, 0x85, 7], Ok(vec![fu(0x65, true, false, &[7])])),
            (&[0x7c, 0x05, 8], Ok(vec![fu(0x65, false, false, &[8])])),
            (&[0x7c, 0x45, 9], Ok(vec![fu(0x65, false, true, &[9])])),
            (&[], Err(PayloadError::Truncated)),
            (&[0x78, 0, 9, 0x67], Err(PayloadError::Truncated)),
            (&[0x78, 0], Err(PayloadError::Truncated)),
            (&[0x7c, 0x85], Err(PayloadError::Truncated)),
            (&[0x79, 0, 0], Err(PayloadError::Unsupported(25))),
            (&[0x00], Err(PayloadError::Unsupported(0))),
            (&[0, 0, 0, 1, 0x65, 9], Ok(vec![whole(&[0, 0, 0, 1, 0x65, 9])])),
            (&[0x1f], Err(PayloadError::Unsupported(31))),
        ];
        for (payload, expected) in table {
            assert_eq!(&pieces(&bytes(payload)), expected, "{payload:02x?}");
        }
    }

    #[test]
    fn stap_a_is_read_back() {
        let nals = [bytes(&[0x67, 1, 2]), bytes(&[0x68, 3])];
        let payload = Bytes::from(stap_a(&nals));
        assert_eq!(payload[0], 0x78);
        let read = pieces(&payload).unwrap();
        assert_eq!(read, nals.map(Piece::Whole).to_vec());
    }

    #[test]
    fn start_codes_inside_of_units() {
        type Row<'a> = (&'a [u8], bool, &'a [&'a [u8]]);
        let table: &[Row<'_>] = &[
            (&[0x65, 1, 2, 3], false, &[&[0x65, 1, 2, 3]]),
            (&[0x65, 0, 0, 3, 1], false, &[&[0x65, 0, 0, 3, 1]]),
            (&[0, 0, 0, 1, 0x65, 9], true, &[&[0x65, 9]]),
            (&[0, 0, 1, 0x65, 9], true, &[&[0x65, 9]]),
            (&[0x67, 5, 0, 0, 0, 1, 0x68, 6, 0, 0, 1, 0x65, 7], true, &[&[0x67, 5], &[0x68, 6], &[0x65, 7]]),
            (&[0, 0, 1], true, &[]),
            (&[], false, &[]),
        ];
        for (joined, found, expected) in table {
            assert_eq!(has_start_code(joined), *found, "{joined:02x?}");
            let parts = split_at_start_codes(&bytes(joined));
            assert_eq!(parts, expected.iter().map(|part| bytes(part)).collect::<Vec<_>>(), "{joined:02x?}");
        }
    }

    #[test]
    fn annex_b_with_both_start_codes() {
        let stream = bytes(&[0, 0, 0, 1, 0x67, 5, 0, 0, 1, 0x68, 6, 0, 0, 0, 1, 0x65, 0, 3, 0, 0]);
        let expected = [bytes(&[0x67, 5]), bytes(&[0x68, 6]), bytes(&[0x65, 0, 3])];
        assert_eq!(annex_b(&stream), expected);
        assert!(annex_b(&bytes(&[1, 2, 3])).is_empty());
    }
}
