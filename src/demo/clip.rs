//! The clip that a simulated camera plays: an Annex-B file split into access units. Not decoded, never modified.
//! Start at [`Clip`].

use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::streams::h264::nal::{NalType, annex_b};

/// 1280 × 720, 25 frames per second, 12 s, a key frame every 2 s, with a clock and a frame counter burnt in.
static BUNDLED: &[u8] = include_bytes!("clip.h264");

/// Why a clip cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum ClipError {
    /// The file cannot be read.
    #[error("{path}: {error}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// The operating system's error.
        error: std::io::Error,
    },
    /// It is not H.264 in Annex-B format beginning with a key frame.
    #[error("{0}: no H.264 Annex-B stream that begins with SPS, PPS and an IDR picture")]
    Format(String),
}

/// Access units in decoding order.
#[derive(Clone, Debug)]
pub struct Clip {
    /// Each is the NAL units of one picture.
    pub frames: Vec<Vec<Bytes>>,
    /// The first SPS.
    pub sps: Bytes,
    /// The first PPS.
    pub pps: Bytes,
    keys: Vec<usize>,
}

impl Clip {
    /// The bundled clip.
    ///
    /// # Errors
    /// Never, if the program was built from a complete source tree.
    pub fn bundled() -> Result<Self, ClipError> {
        Self::parse(&Bytes::from_static(BUNDLED), "the bundled clip")
    }

    /// Reads a clip from a file.
    ///
    /// # Errors
    /// The file cannot be read or is not such a clip.
    pub fn read(path: &Path) -> Result<Self, ClipError> {
        let data = std::fs::read(path).map_err(|error| ClipError::Io { path: path.into(), error })?;
        Self::parse(&data.into(), &path.display().to_string())
    }

    fn parse(data: &Bytes, name: &str) -> Result<Self, ClipError> {
        let nals = annex_b(data);
        let first = |wanted| nals.iter().find(|nal| NalType::of(nal[0]) == wanted).cloned();
        let format = || ClipError::Format(name.to_owned());
        let sps = first(NalType::Sps).ok_or_else(format)?;
        let pps = first(NalType::Pps).ok_or_else(format)?;
        let mut frames: Vec<Vec<Bytes>> = vec![Vec::new()];
        let mut pictures = false;
        for nal in nals {
            let picture = NalType::of(nal[0]).is_picture();
            // Only the first slice of a picture has first_mb_in_slice 0, which is coded as a single 1 bit.
            let begins = !picture || nal.get(1).is_some_and(|byte| byte & 0x80 != 0);
            if pictures && begins {
                frames.push(Vec::new());
                pictures = false;
            }
            pictures |= picture;
            if let Some(frame) = frames.last_mut() {
                frame.push(nal);
            }
        }
        let is_key = |frame: &Vec<Bytes>| frame.iter().any(|nal| NalType::of(nal[0]) == NalType::Idr);
        let keys: Vec<usize> = (0..frames.len()).filter(|&index| is_key(&frames[index])).collect();
        if keys.first() != Some(&0) {
            return Err(format());
        }
        Ok(Self { frames, sps, pps, keys })
    }

    /// The key frame at or before a frame.
    pub fn key_before(&self, frame: usize) -> usize {
        self.keys.iter().copied().take_while(|&key| key <= frame).last().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundled_clip() {
        let clip = Clip::bundled().unwrap();
        assert_eq!(clip.frames.len(), 300);
        assert_eq!(clip.keys.len(), 6);
        assert_eq!(clip.key_before(99), 50);
    }

    #[test]
    fn slices_stay_together() {
        let clip = Clip::read(Path::new("tests/cameras/slices-aud.h264")).unwrap();
        assert_eq!(clip.frames.len(), 100);
        assert!(clip.frames[1].iter().filter(|nal| NalType::of(nal[0]).is_picture()).count() == 4);
    }

    #[test]
    fn other_files_are_refused() {
        assert!(matches!(Clip::read(Path::new("Cargo.toml")), Err(ClipError::Format(_))));
        assert!(matches!(Clip::read(Path::new("no/such/file")), Err(ClipError::Io { .. })));
    }
}
