//! Chooses among the codecs that a section offers. Pure. Start at [`choose_video`] and [`choose_audio`].

use crate::media::session::sdp::Codec;
use crate::streams::packet::{AudioCodec, VideoCodec};

/// A codec of the offer, with the payload type of its retransmissions.
pub(super) struct Choice {
    pub codec: Codec,
    pub rtx: Option<u8>,
}

/// The profiles of H.264 that WebRTC endpoints name (RFC 6184 §8.1, table 5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Profile {
    ConstrainedBaseline,
    Baseline,
    Main,
    ConstrainedHigh,
    High,
    Other,
}

impl Profile {
    /// From a `profile-level-id`: profile_idc, profile-iop and level in hexadecimal digits. Without one it is Baseline.
    fn parse(id: Option<&str>) -> Self {
        let byte = |place| id.and_then(|id| u8::from_str_radix(id.get(place..place + 2)?, 16).ok());
        match (byte(0), byte(2).unwrap_or(0)) {
            (Some(0x42), iop) if iop & 0x40 != 0 => Self::ConstrainedBaseline,
            (Some(0x4d), iop) if iop & 0x80 != 0 => Self::ConstrainedBaseline,
            (Some(0x58), iop) if iop & 0xc0 == 0xc0 => Self::ConstrainedBaseline,
            (Some(0x42) | None, _) => Self::Baseline,
            (Some(0x4d), _) => Self::Main,
            (Some(0x64), iop) if iop & 0x0c == 0x0c => Self::ConstrainedHigh,
            (Some(0x64), _) => Self::High,
            _ => Self::Other,
        }
    }

    /// How well a decoder for `offered` suits a stream of this profile; 0 is best. First come decoders that can decode
    /// the stream, then the others: browsers decode more profiles than they offer.
    fn rank(self, offered: Self) -> usize {
        use Profile::{Baseline, ConstrainedBaseline, ConstrainedHigh, High, Main};
        let order = match self {
            ConstrainedBaseline => [ConstrainedBaseline, Baseline, Main, ConstrainedHigh, High],
            // Cameras that say Baseline do not use what only Baseline has.
            Baseline => [Baseline, ConstrainedBaseline, Main, ConstrainedHigh, High],
            Main => [Main, High, ConstrainedHigh, ConstrainedBaseline, Baseline],
            ConstrainedHigh => [ConstrainedHigh, High, Main, ConstrainedBaseline, Baseline],
            High | Self::Other => [High, ConstrainedHigh, Main, ConstrainedBaseline, Baseline],
        };
        order.iter().position(|profile| *profile == offered).unwrap_or(order.len())
    }
}

/// The codec for a stream of `wanted`, with the `profile-level-id` of its SPS. For H.264, `packetization-mode=1` is
/// preferred, since only that mode allows fragments. Without it our packets are the same: players that omit the mode or
/// offer only mode 0 reassemble fragments nevertheless.
pub(super) fn choose_video(codecs: &[Codec], wanted: VideoCodec, profile_level_id: &str) -> Option<Choice> {
    let profile = Profile::parse(Some(profile_level_id));
    let rank = |codec: &&Codec| {
        let mode = codec.parameter("packetization-mode").unwrap_or("0");
        (mode != "1", profile.rank(Profile::parse(codec.parameter("profile-level-id"))))
    };
    // For VP9 and AV1 profile 0 (8 bits), which every browser supports.
    let is_profile_0 = |codec: &&Codec| {
        ["profile-id", "profile"].iter().all(|key| codec.parameter(key).is_none_or(|profile| profile == "0"))
    };
    let mut fitting = codecs.iter().filter(|codec| codec.name == wanted.name());
    let best = match wanted {
        // Mode 2 interleaves: such a decoder expects decoding order numbers (RFC 6184 §5.7).
        VideoCodec::H264 => {
            fitting.filter(|codec| codec.parameter("packetization-mode") != Some("2")).min_by_key(rank)
        }
        VideoCodec::Vp8 => fitting.next(),
        VideoCodec::Vp9 | VideoCodec::Av1 => fitting.find(is_profile_0),
    }?;
    let rtx = codecs.iter().find(|codec| {
        codec.name == "RTX"
            && codec.parameter("apt").and_then(|apt| apt.parse().ok()) == Some(best.payload_type)
    });
    Some(Choice { codec: best.clone(), rtx: rtx.map(|rtx| rtx.payload_type) })
}

/// The codec for a stream of `wanted`.
pub(super) fn choose_audio(codecs: &[Codec], wanted: AudioCodec) -> Option<Choice> {
    let codec =
        codecs.iter().find(|codec| codec.name == wanted.name() && codec.clock_rate == wanted.clock())?;
    Some(Choice { codec: codec.clone(), rtx: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::session::sdp::Sdp;

    fn chosen(stream: &str, offered: &[&str]) -> Option<usize> {
        let numbers: Vec<String> = (0..offered.len()).map(|number| (96 + number).to_string()).collect();
        let mut text = format!("v=0\nm=video 9 UDP/TLS/RTP/SAVPF {}\n", numbers.join(" "));
        for (number, format) in numbers.iter().zip(offered) {
            text += &format!("a=rtpmap:{number} H264/90000\n");
            if !format.is_empty() {
                text += &format!("a=fmtp:{number} {format}\n");
            }
        }
        let codecs = Sdp::parse(&text).unwrap().media[0].codecs();
        let choice = choose_video(&codecs, VideoCodec::H264, stream)?;
        Some(usize::from(choice.codec.payload_type) - 96)
    }

    #[test]
    fn the_best_h264_that_fits_both() {
        let mode1 = |profile: &str| format!("packetization-mode=1;profile-level-id={profile}");
        let all = ["42001f", "42e01f", "4d001f", "640c1f", "64001f"].map(mode1);
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let c0 = [mode1("64001f"), mode1("42c01f")];
        let c0 = [c0[0].as_str(), c0[1].as_str()];
        let high = mode1("640032");
        let table: [(&str, &[&str], Option<usize>); 19] = [
            ("42001e", &all, Some(0)),
            ("42e01e", &all, Some(1)),
            ("42c01e", &all, Some(1)),
            ("42401e", &all, Some(1)),
            ("4d401e", &all, Some(2)),
            ("4d801e", &all, Some(1)),
            ("640c28", &all, Some(3)),
            ("640028", &all, Some(4)),
            ("f4001f", &all, Some(4)),
            ("42e01f", &c0, Some(1)),
            ("640028", &c0, Some(0)),
            ("4D001F", &["packetization-mode=1;profile-level-id=4D0032", c0[0]], Some(0)),
            ("42e01f", &[&high], Some(0)),
            ("42e01f", &["packetization-mode=0;profile-level-id=42e01f", &high], Some(1)),
            ("42e01f", &["packetization-mode=0;profile-level-id=42e01f"], Some(0)),
            ("42e01f", &["profile-level-id=42e01f"], Some(0)),
            ("42e01f", &[""], Some(0)),
            ("42e01f", &["packetization-mode=2"], None),
            ("42e01f", &[], None),
        ];
        for (stream, offered, expected) in table {
            assert_eq!(chosen(stream, offered), expected, "{stream} {offered:?}");
        }
    }
}
