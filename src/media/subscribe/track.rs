//! One outgoing track of one viewer: RTP headers, numbering, retransmission. It writes protected packets into the
//! caller's buffer and sends nothing itself. `cursor` decides when which packet is sent. Start at [`OutTrack::write`].

use crate::media::session::negotiate::SendTrack;
use crate::media::transport::srtp::{RtpProtector, SrtpError};

/// How many packets back retransmission reaches: a power of two.
const HISTORY: usize = 1024;

/// How far back a replay can go, in ticks: ten minutes, the longest GOPs that cameras produce.
const MAX_REPLAY: i32 = 600 * 90_000;

/// What was sent under a sequence number.
#[derive(Clone, Copy, Default)]
struct Sent {
    /// The low bits of the packet's index; 0 for a skipped sequence number.
    index: u32,
    timestamp: u32,
}

/// The data needed for a retransmission.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Resend {
    /// The packet's index in the ring.
    pub index: u64,
    sequence: u64,
    timestamp: u32,
}

/// See the module.
pub struct OutTrack {
    settings: SendTrack,
    /// Rollover counter and sequence number of the next packet, combined.
    next: u64,
    /// The same for retransmissions.
    next_rtx: u64,
    history: Option<Box<[Sent; HISTORY]>>,
    /// Of the last packet: the frame's original timestamp and the one that was sent.
    last_timestamp: Option<(u32, u32)>,
    /// Added to the stream's timestamps, since another layer has its own timeline.
    shift: u32,
    /// The last packet was not the last of its frame.
    in_frame: bool,
    packets: u32,
    octets: u32,
}

impl OutTrack {
    /// A track that has sent nothing yet. `start` is the sequence number of its first packet.
    pub fn new(settings: SendTrack, start: u16, rtx_start: u16) -> Self {
        let history = settings.nack.then(|| Box::new([Sent::default(); HISTORY]));
        // Below 2^15: after a rollover before the first report, Chromium guesses the ROC wrong and drops everything.
        let (next, next_rtx) = (u64::from(start & 0x7fff), u64::from(rtx_start & 0x7fff));
        Self {
            settings,
            next,
            next_rtx,
            history,
            last_timestamp: None,
            shift: 0,
            in_frame: false,
            packets: 0,
            octets: 0,
        }
    }

    /// Its SSRC.
    pub fn ssrc(&self) -> u32 {
        self.settings.ssrc
    }

    /// Packets and payload bytes sent so far, for sender reports.
    pub fn counts(&self) -> (u32, u32) {
        (self.packets, self.octets)
    }

    /// Goes on with another layer of the video; see [`Self::shift`]. What has been sent cannot be repeated any more.
    pub fn splice(&mut self, ticks: u32) {
        if self.in_frame {
            // The rest of the frame is missing.
            self.skip();
        }
        if let Some(history) = &mut self.history {
            history.fill(Sent::default());
        }
        self.shift(ticks);
    }

    /// Another layer has its own timeline: adds `ticks` to its timestamps, so that they continue those so far.
    pub fn shift(&mut self, ticks: u32) {
        self.shift = self.shift.wrapping_add(ticks);
    }

    /// A timestamp of the stream as it is sent.
    pub fn shifted(&self, timestamp: u32) -> u32 {
        timestamp.wrapping_add(self.shift)
    }

    /// Skips a sequence number: the packet was lost upstream.
    pub fn skip(&mut self) {
        self.in_frame = false;
        self.remember(0, 0);
        self.next += 1;
    }

    /// Appends a protected packet to `buffer`; returns its length.
    ///
    /// # Errors
    /// Never for payloads of normal size.
    pub fn write(
        &mut self,
        buffer: &mut Vec<u8>,
        protector: &RtpProtector,
        packet: &crate::streams::packet::Packet,
    ) -> Result<usize, SrtpError> {
        let timestamp = self.outgoing_timestamp(self.shifted(packet.timestamp));
        self.in_frame = !packet.marker;
        self.remember(packet.index as u32, timestamp);
        let (ssrc, pt, sequence) = (self.settings.ssrc, self.settings.payload_type, self.next);
        self.next += 1;
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(packet.payload.len() as u32);
        self.protect(buffer, protector, (ssrc, pt, packet.marker, sequence, timestamp), &[], &packet.payload)
    }

    /// The stream's timestamp, or one tick more than the last if a replay goes back in time: receivers drop a frame as
    /// old if its timestamp does not increase.
    fn outgoing_timestamp(&mut self, timestamp: u32) -> u32 {
        let outgoing = match self.last_timestamp {
            Some((input, output)) if input == timestamp => output,
            // Only as far back as a replay can go: beyond that, the 32 bits have wrapped around.
            Some((_, output)) if (-MAX_REPLAY..=0).contains(&(timestamp.wrapping_sub(output) as i32)) => {
                output.wrapping_add(1)
            }
            _ => timestamp,
        };
        self.last_timestamp = Some((timestamp, outgoing));
        outgoing
    }

    fn remember(&mut self, index: u32, timestamp: u32) {
        if let Some(history) = &mut self.history {
            history[self.next as usize % HISTORY] = Sent { index, timestamp };
        }
    }

    /// What was sent under a sequence number, if it is still in the history. `end` is an index near the newest, from
    /// which the upper half of the stored index is restored.
    pub fn find(&self, sequence: u16, end: u64) -> Option<Resend> {
        let history = self.history.as_ref()?;
        let back = u64::from((self.next as u16).wrapping_sub(sequence));
        if back == 0 || back > HISTORY as u64 {
            return None;
        }
        let sequence = self.next.checked_sub(back)?;
        let sent = history[sequence as usize % HISTORY];
        if sent.index == 0 {
            return None;
        }
        let behind = u64::from((end as u32).wrapping_sub(sent.index));
        Some(Resend { index: end.checked_sub(behind)?, sequence, timestamp: sent.timestamp })
    }

    /// Appends a retransmission: with RTX if negotiated, else the identical packet.
    ///
    /// # Errors
    /// Never for payloads of normal size.
    pub fn rewrite(
        &mut self,
        buffer: &mut Vec<u8>,
        protector: &RtpProtector,
        resend: &Resend,
        packet: &crate::streams::packet::Packet,
    ) -> Result<usize, SrtpError> {
        let (marker, timestamp) = (packet.marker, resend.timestamp);
        let Some(pt) = self.settings.rtx_payload_type else {
            // Must be identical byte for byte: GCM must never encrypt two plaintexts with the same index.
            let (ssrc, pt) = (self.settings.ssrc, self.settings.payload_type);
            let header = (ssrc, pt, marker, resend.sequence, timestamp);
            return self.protect(buffer, protector, header, &[], &packet.payload);
        };
        let sequence = self.next_rtx;
        self.next_rtx += 1;
        // RFC 4588 §4: the original sequence number comes first.
        let original = (resend.sequence as u16).to_be_bytes();
        let header = (self.settings.rtx_ssrc, pt, marker, sequence, timestamp);
        self.protect(buffer, protector, header, &original, &packet.payload)
    }

    fn protect(
        &self,
        buffer: &mut Vec<u8>,
        protector: &RtpProtector,
        (ssrc, payload_type, marker, index, timestamp): (u32, u8, bool, u64, u32),
        prefix: &[u8],
        payload: &[u8],
    ) -> Result<usize, SrtpError> {
        let start = buffer.len();
        let mut header = [0; 20];
        header[0] = 0x80;
        header[1] = payload_type | if marker { 0x80 } else { 0 };
        header[2..4].copy_from_slice(&(index as u16).to_be_bytes());
        header[4..8].copy_from_slice(&timestamp.to_be_bytes());
        header[8..12].copy_from_slice(&ssrc.to_be_bytes());
        let mut length = 12;
        if let Some(id) = self.settings.playout_delay {
            header[0] |= 0x10;
            // One element of three bytes (RFC 8285 §4.2), both bounds 0: render immediately.
            header[12..20].copy_from_slice(&[0xbe, 0xde, 0, 1, id << 4 | 2, 0, 0, 0]);
            length = 20;
        }
        buffer.extend_from_slice(&header[..length]);
        buffer.extend_from_slice(prefix);
        buffer.extend_from_slice(payload);
        protector.protect(buffer, start, length, ssrc, index)?;
        Ok(buffer.len() - start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::subscribe::ring::tests::packet;
    use crate::media::transport::srtp::{Profile, SrtpContext};
    use crate::streams::packet::Packet;

    fn session() -> SrtpContext {
        let provider = rtc::crypto::default_provider().unwrap();
        let material = vec![3; Profile::Aes128Gcm.keying_material_len()];
        SrtpContext::new(Profile::Aes128Gcm, &material, true, provider.crypto()).unwrap()
    }

    fn settings(rtx: Option<u8>) -> SendTrack {
        SendTrack {
            payload_type: 97,
            rtx_payload_type: rtx,
            nack: true,
            playout_delay: Some(6),
            ssrc: 11,
            rtx_ssrc: 22,
        }
    }

    #[test]
    fn a_retransmission_without_rtx_is_the_same_bytes() {
        let session = session();
        let mut track = OutTrack::new(settings(None), 0xffff, 0);
        let mut first = Vec::new();
        track.write(&mut first, session.protector(), &packet(7, true)).unwrap();
        let mut others = Vec::new();
        for index in 8..100 {
            track.write(&mut others, session.protector(), &packet(index, false)).unwrap();
        }
        let resend = track.find(0x7fff, 100).unwrap();
        assert_eq!(resend.index, 7);
        let mut again = Vec::new();
        track.rewrite(&mut again, session.protector(), &resend, &packet(7, true)).unwrap();
        assert_eq!(again, first);
        assert_eq!(first[0], 0x90);
        assert_eq!(first[1], 97);
        assert_eq!(first.len(), 20 + 1000 + 16);
    }

    #[test]
    fn rtx_has_its_own_numbers() {
        let session = session();
        let mut track = OutTrack::new(settings(Some(98)), 5, 1000);
        let mut buffer = Vec::new();
        track.write(&mut buffer, session.protector(), &packet(7, true)).unwrap();
        let resend = track.find(5, 8).unwrap();
        let mut again = Vec::new();
        track.rewrite(&mut again, session.protector(), &resend, &packet(7, true)).unwrap();
        assert_eq!((again[1], &again[2..4]), (98, &1000u16.to_be_bytes()[..]));
        assert_eq!(again[8..12], 22u32.to_be_bytes());
        assert_eq!(again.len(), buffer.len() + 2);
    }

    #[test]
    fn what_was_never_sent_is_not_found() {
        let session = session();
        let mut track = OutTrack::new(settings(None), 0, 0);
        assert_eq!(track.find(0, 0), None);
        track.skip();
        let mut buffer = Vec::new();
        track.write(&mut buffer, session.protector(), &packet(7, true)).unwrap();
        assert_eq!(track.find(0, 8), None, "a gap");
        assert!(track.find(1, 8).is_some());
        assert_eq!(track.find(2, 8), None, "the future");
        assert_eq!(track.find(40_000, 8), None, "long ago");
        for index in 8..2000 {
            buffer.clear();
            track.write(&mut buffer, session.protector(), &packet(index, false)).unwrap();
        }
        assert_eq!(track.find(1, 2000), None, "overwritten");
    }

    #[test]
    fn timestamps_never_go_back() {
        let mut track = OutTrack::new(settings(None), 0, 0);
        let outgoing: Vec<u32> =
            [1000, 1000, 4600, 1000, 1000, 4600, 8200].map(|input| track.outgoing_timestamp(input)).to_vec();
        assert_eq!(outgoing, [1000, 1000, 4600, 4601, 4601, 4602, 8200]);
    }

    #[test]
    fn another_layer_goes_on_with_the_next_number_and_time() {
        let session = session();
        let mut track = OutTrack::new(settings(None), 100, 0);
        let header = |track: &mut OutTrack, index: u64, timestamp: u32, marker: bool| {
            let mut buffer = Vec::new();
            let packet = Packet { timestamp, marker, ..packet(index, false) };
            track.write(&mut buffer, session.protector(), &packet).unwrap();
            (u16::from_be_bytes([buffer[2], buffer[3]]), u32::from_be_bytes(buffer[4..8].try_into().unwrap()))
        };
        assert_eq!(header(&mut track, 7, 1000, true), (100, 1000));
        track.splice(1000u32.wrapping_sub(50_000));
        assert_eq!(track.find(100, 8), None, "its index means another packet now");
        // The other layer's cached GOP is older than what was sent.
        assert_eq!(header(&mut track, 900, 46_000, false), (101, 1001));
        assert_eq!(header(&mut track, 901, 46_000, false), (102, 1001));
        // In the middle of a frame: a number is left out.
        track.splice(50_000);
        assert_eq!(header(&mut track, 3, 4_000, true), (104, 5_000));
        assert_eq!(track.shifted(4_000), 5_000);
    }

    #[test]
    fn only_a_replay_is_taken_for_the_past() {
        for step in [MAX_REPLAY + 1, i32::MAX, i32::MIN] {
            let mut track = OutTrack::new(settings(None), 0, 0);
            track.outgoing_timestamp(1000);
            let behind = 1000u32.wrapping_sub(step as u32);
            assert_eq!(track.outgoing_timestamp(behind), behind, "{step}: an outage, not a replay");
        }
    }
}
