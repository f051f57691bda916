//! The types of stream sources: how a source is specified, what it delivers and how it fails. No logic; the adapters
//! are `rtsp`, `whep` and `published`; `connection` is any one of them. Start at [`SourceSpec`].

use std::time::{Instant, SystemTime};

use bytes::Bytes;
use url::Url;

use super::backoff::Hope;
use super::packet::{AudioCodec, RtpIn, Track, VideoCodec};
use super::status::{AudioStatus, Reason};
pub use crate::secret::Secret;

/// How RTP travels from an RTSP camera.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Transport {
    /// Inside the RTSP connection, and in datagrams where the camera refuses that.
    #[default]
    Auto,
    /// Inside the RTSP connection.
    Tcp,
    /// In UDP datagrams: lower latency on a perfect network, packet loss on any other.
    Udp,
}

/// Which certificate of a camera is accepted (`rtsps://`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TlsTrust {
    /// One that the system trusts.
    #[default]
    System,
    /// The one with this SHA-256.
    Pinned([u8; 32]),
    /// Any: whoever is in between can watch, and show something else.
    Anything,
}

impl TlsTrust {
    /// A SHA-256 in hexadecimal digits, with or without colons.
    pub fn pinned(text: &str) -> Option<Self> {
        let digits: String = text.chars().filter(|letter| !matches!(letter, ':' | ' ')).collect();
        if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let mut digest = [0; 32];
        for (place, byte) in digest.iter_mut().enumerate() {
            *byte = u8::from_str_radix(digits.get(place * 2..place * 2 + 2)?, 16).ok()?;
        }
        Some(Self::Pinned(digest))
    }
}

/// Where a stream comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SourceSpec {
    /// An RTSP camera. The URL has no credentials.
    Rtsp {
        /// `rtsp://host[:port]/path`, or `rtsps://`.
        url: Url,
        /// User name and password.
        credentials: Option<(String, Secret)>,
        /// How RTP travels.
        transport: Transport,
        /// Which certificate is accepted.
        tls: TlsTrust,
        /// Other hosts to which the camera may redirect, and which are told its login.
        follow: Vec<String>,
    },
    /// Another WHEP server.
    Whep {
        /// `http://` or `https://`.
        url: Url,
        /// Sent as `Authorization: Bearer`.
        token: Option<Secret>,
    },
    /// Published by WHIP: pushed to us instead of pulled.
    Published,
}

impl SourceSpec {
    /// Where it is: scheme, host and port. Paths and queries may contain secrets.
    pub fn address(&self) -> String {
        match self {
            Self::Rtsp { url, .. } | Self::Whep { url, .. } => {
                let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
                format!("{}://{}{port}", url.scheme(), url.host_str().unwrap_or_default())
            }
            Self::Published => String::new(),
        }
    }

    /// The same source over UDP, if TCP is only the first choice.
    pub fn over_udp(&self) -> Option<Self> {
        let mut other = self.clone();
        match &mut other {
            Self::Rtsp { transport, .. } if *transport == Transport::Auto => *transport = Transport::Udp,
            _ => return None,
        }
        Some(other)
    }

    /// Whether the source sends a key frame soon after a request for one, as browsers do and cameras do not.
    pub fn answers_key_frames(&self) -> bool {
        !matches!(self, Self::Rtsp { .. })
    }
}

/// Why a source is not delivering, or has stopped delivering.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct SourceError {
    /// A stable code for clients.
    pub code: &'static str,
    /// English, without secrets.
    pub message: String,
    /// Whether retrying is likely to help.
    pub hope: Hope,
}

impl SourceError {
    /// An error that may go away by itself.
    pub fn soon(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hope: Hope::Soon }
    }

    /// The source cannot be reached.
    pub fn away(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hope: Hope::Away }
    }

    /// An error that needs operator action.
    pub fn slowly(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hope: Hope::Slowly }
    }

    /// For the status.
    pub fn reason(&self) -> Reason {
        Reason { code: self.code, message: self.message.clone() }
    }
}

/// What a source offers, known once it is connected.
#[derive(Clone, Default, Debug)]
pub struct Offered {
    /// SPS and PPS from the SDP.
    pub parameter_sets: Vec<Bytes>,
    /// The video codec; `None` if it is audio-only.
    pub video: Option<VideoCodec>,
    /// The audio track, playable or not.
    pub audio: Option<AudioStatus>,
    /// Set if the audio is forwarded.
    pub audio_codec: Option<AudioCodec>,
    /// What is not as it should be, and is no obstacle.
    pub notes: Vec<Reason>,
}

/// Something received from a source.
#[derive(Debug)]
pub enum Arrival {
    /// A packet.
    Rtp(RtpIn),
    /// A sender report: maps an RTP timestamp to the source's wall clock.
    Clock {
        /// Which track.
        track: Track,
        /// The RTP timestamp.
        timestamp: u32,
        /// The source's wall clock.
        at: SystemTime,
        /// When the report arrived.
        received: Instant,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints() {
        let digits = "ab".repeat(32);
        assert_eq!(TlsTrust::pinned(&digits), Some(TlsTrust::Pinned([0xab; 32])));
        assert_eq!(TlsTrust::pinned(&["AB"; 32].join(":")), Some(TlsTrust::Pinned([0xab; 32])));
        for text in ["", "ab", &digits[1..], &"xy".repeat(32), &"é".repeat(32)] {
            assert_eq!(TlsTrust::pinned(text), None, "{text}");
        }
    }
}
