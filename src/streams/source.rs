//! What can be the source of a stream, how it is described, what it delivers and how it fails: types alone. The
//! adapters are `rtsp`, `whep` and `published`; `connection` is any one of them.

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
    /// Inside the RTSP connection.
    #[default]
    Tcp,
    /// In datagrams: less delay on a perfect network, losses on every other.
    Udp,
}

/// Where a stream comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SourceSpec {
    /// An RTSP camera. The URL has no credentials.
    Rtsp {
        /// `rtsp://host[:port]/path`.
        url: Url,
        /// User name and password.
        credentials: Option<(String, Secret)>,
        /// How RTP travels.
        transport: Transport,
    },
    /// Another WHEP server.
    Whep {
        /// `http://` or `https://`.
        url: Url,
        /// Sent as `Authorization: Bearer`.
        token: Option<Secret>,
    },
    /// Whoever publishes it by WHIP: it comes by itself, and is not fetched.
    Published,
}

impl SourceSpec {
    /// Whether the source sends a key frame soon after it is asked for one, as browsers do and cameras do not.
    pub fn answers_key_frames(&self) -> bool {
        !matches!(self, Self::Rtsp { .. })
    }
}

/// Why a source is not, or no longer, delivering.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct SourceError {
    /// Stable, for clients.
    pub code: &'static str,
    /// English, without secrets.
    pub message: String,
    /// Whether trying again helps.
    pub hope: Hope,
}

impl SourceError {
    /// One that may pass by itself.
    pub fn soon(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hope: Hope::Soon }
    }

    /// One that somebody has to mend.
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
    /// Its pictures' codec; none if it has sound alone.
    pub video: Option<VideoCodec>,
    /// Its sound, playable or not.
    pub audio: Option<AudioStatus>,
    /// Set if the sound is passed on.
    pub audio_codec: Option<AudioCodec>,
}

/// Something that arrived.
#[derive(Debug)]
pub enum Arrival {
    /// A packet.
    Rtp(RtpIn),
    /// A sender report: which time of the source's clock an RTP timestamp stands for.
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
