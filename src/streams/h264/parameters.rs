//! Reads a camera's parameter sets and slice headers: size, profile, frame rate, reordering. The SPS is parsed by
//! `h264-reader`; of a slice header only the first two fields are read. Start at [`read_sps`].

use h264_reader::nal::sps::{Profile, SeqParameterSet};
use h264_reader::rbsp::{BitReader, decode_nal};
use serde::Serialize;

/// What an SPS says about the video.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct VideoInfo {
    /// Such as `Main`.
    pub profile: &'static str,
    /// Such as `3.1`.
    pub level: String,
    /// `profile-level-id` of SDP: profile_idc, constraint flags, level_idc in hexadecimal (RFC 6184 §8.1).
    pub profile_level_id: String,
    /// In pixels, after cropping.
    pub width: u32,
    /// In pixels, after cropping.
    pub height: u32,
    /// Frames per second that the SPS announces, if it does.
    pub nominal_fps: Option<f64>,
    /// How many pictures may be held back for reordering (B-frames), if the SPS says so.
    pub reorder_frames: Option<u32>,
}

/// Reads an SPS NAL unit, header byte included.
///
/// # Errors
/// A description of what h264-reader found wrong with it.
pub fn read_sps(nal: &[u8]) -> Result<VideoInfo, String> {
    if nal.len() < 4 {
        return Err("the SPS is truncated".into());
    }
    let rbsp = decode_nal(nal).map_err(|error| error.to_string())?;
    let sps = SeqParameterSet::from_bits(BitReader::new(&rbsp[..])).map_err(|error| format!("{error:?}"))?;
    let (width, height) = sps.pixel_dimensions().map_err(|error| format!("{error:?}"))?;
    let restrictions = sps.vui_parameters.as_ref().and_then(|vui| vui.bitstream_restrictions.as_ref());
    let profile = profile_name(&sps.profile());
    // These do not allow B slices.
    let reorder_frames = match profile {
        "Baseline" | "Constrained Baseline" | "Constrained High" => Some(0),
        _ => restrictions.map(|restrictions| restrictions.max_num_reorder_frames),
    };
    let level = sps.level().level_idc();
    Ok(VideoInfo {
        profile,
        level: format!("{}.{}", level / 10, level % 10),
        profile_level_id: format!("{:02x}{:02x}{:02x}", nal[1], nal[2], nal[3]),
        width,
        height,
        nominal_fps: sps.fps().filter(|fps| fps.is_finite() && (0.1..=1000.0).contains(fps)),
        reorder_frames,
    })
}

fn profile_name(profile: &Profile) -> &'static str {
    match profile {
        Profile::Baseline => "Baseline",
        Profile::ConstrainedBaseline => "Constrained Baseline",
        Profile::Main => "Main",
        Profile::Extended => "Extended",
        Profile::High | Profile::ProgressiveHigh => "High",
        Profile::ConstrainedHigh => "Constrained High",
        Profile::High10 | Profile::High10Intra => "High 10",
        Profile::High422 | Profile::High422Intra => "High 4:2:2",
        Profile::High444 | Profile::High444Intra | Profile::CavlcIntra444 => "High 4:4:4",
        _ => "other",
    }
}

/// The type of a slice: what it may refer to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SliceKind {
    /// Only its own picture.
    I,
    /// Previously sent pictures.
    P,
    /// Pictures shown before and after it.
    B,
}

/// The type of the slice that begins with these bytes (NAL header first); `None` if it is truncated or not the first
/// slice of its picture.
///
/// `slice_type` is the second field of the header (ITU-T H.264 §7.3.3 and table 7-6).
pub fn slice_kind(nal: &[u8]) -> Option<SliceKind> {
    // The first slice's two fields take at most eleven bits, so no emulation prevention byte can precede them.
    let mut bits = Bits { data: nal.get(1..nal.len().min(12))?, at: 0 };
    if bits.exp_golomb()? != 0 {
        return None;
    }
    Some(match bits.exp_golomb()? % 5 {
        1 => SliceKind::B,
        2 | 4 => SliceKind::I,
        _ => SliceKind::P,
    })
}

/// The id of an SPS or PPS (ITU-T H.264 §7.3.2); `None` if it is truncated or out of range.
pub fn parameter_set_id(nal: &[u8]) -> Option<u32> {
    let at = match nal.first()? & 0x1f {
        7 => 4,
        _ => 1,
    };
    Bits { data: nal.get(at..)?, at: 0 }.exp_golomb().filter(|id| *id < 256)
}

struct Bits<'a> {
    data: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn bit(&mut self) -> Option<u32> {
        let byte = self.data.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(u32::from(bit))
    }

    /// `ue(v)`, ITU-T H.264 §9.1.
    fn exp_golomb(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while self.bit()? == 0 {
            zeros += 1;
            if zeros > 20 {
                return None;
            }
        }
        let mut value = 1;
        for _ in 0..zeros {
            value = value << 1 | self.bit()?;
        }
        Some(value - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::streams::h264::nal::{NalType, annex_b};
    use bytes::Bytes;

    const DEMO: &[u8] = include_bytes!("../../demo/clip.h264");
    const B_FRAMES: &[u8] = include_bytes!("../../../tests/cameras/b-frames.h264");

    fn first_sps(clip: &'static [u8]) -> VideoInfo {
        let nals = annex_b(&Bytes::from_static(clip));
        read_sps(nals.iter().find(|nal| NalType::of(nal[0]) == NalType::Sps).unwrap()).unwrap()
    }

    #[test]
    fn reads_the_demo_clip() {
        let info = first_sps(DEMO);
        assert_eq!((info.width, info.height), (1280, 720));
        assert_eq!((info.profile, info.nominal_fps), ("Main", Some(25.0)));
        assert_eq!(info.reorder_frames, Some(0));
        assert!(info.profile_level_id.starts_with("4d"));
    }

    #[test]
    fn profiles_are_named_by_idc_and_constraints() {
        let sps = |clip: &'static [u8]| {
            let nals = annex_b(&Bytes::from_static(clip));
            nals.iter().find(|nal| NalType::of(nal[0]) == NalType::Sps).unwrap().to_vec()
        };
        let high = include_bytes!("../../../tests/cameras/slices-aud.h264");
        // The syntax of an SPS depends on profile_idc: Main's is that of Baseline.
        let table = [
            (sps(DEMO), 0x42, 0xc0, "Constrained Baseline"),
            (sps(DEMO), 0x42, 0xe0, "Constrained Baseline"),
            (sps(DEMO), 0x42, 0x00, "Baseline"),
            (sps(DEMO), 0x4d, 0x40, "Main"),
            (sps(DEMO), 0x58, 0x00, "Extended"),
            (sps(high), 0x64, 0x00, "High"),
            (sps(high), 0x64, 0x08, "High"),
            (sps(high), 0x64, 0x0c, "Constrained High"),
            (sps(high), 0x6e, 0x00, "High 10"),
            (sps(high), 0x7a, 0x10, "High 4:2:2"),
        ];
        for (mut sps, idc, constraints, name) in table {
            sps[1..3].copy_from_slice(&[idc, constraints]);
            let info = read_sps(&sps).unwrap();
            assert_eq!(info.profile, name, "{idc:02x}{constraints:02x}");
            if name.ends_with("Baseline") || name.starts_with("Constrained") {
                assert_eq!(info.reorder_frames, Some(0), "{name}");
            }
        }
    }

    #[test]
    fn sees_b_frames_in_sps_and_slices() {
        assert_eq!(first_sps(B_FRAMES).reorder_frames, Some(2));
        let count = |clip: &'static [u8]| {
            let nals = annex_b(&Bytes::from_static(clip));
            nals.iter().filter(|nal| nal[0] & 0x1f == 1 && slice_kind(nal) == Some(SliceKind::B)).count()
        };
        assert!(count(B_FRAMES) > 20);
        assert_eq!(count(DEMO), 0);
    }

    #[test]
    fn damaged_parameter_sets_are_errors() {
        let nals = annex_b(&Bytes::from_static(DEMO));
        let sps = nals.iter().find(|nal| NalType::of(nal[0]) == NalType::Sps).unwrap();
        for length in 0..sps.len() - 3 {
            let _ = read_sps(&sps[..length]);
        }
        assert!(read_sps(&[0x67, 0x4d, 0, 0x1f, 0xff]).is_err());
        assert!(read_sps(&[]).is_err());
        assert_eq!(slice_kind(&[]), None);
        assert_eq!(slice_kind(&[0x41, 0, 0, 0, 0, 0]), None);
    }
}
