//! A connected source of any kind. `stream` starts and stops it. Start at [`SourceConnection`].

use super::source::{Arrival, Offered, SourceError, SourceSpec};
use super::{published, rtsp, whep};

/// A connected source. Dropping it disconnects.
pub enum SourceConnection {
    /// A camera.
    Rtsp(Box<rtsp::RtspConnection>),
    /// A WHEP server.
    Whep(Box<whep::WhepConnection>),
    /// A publisher.
    Published(Box<published::PublishedConnection>),
}

impl SourceConnection {
    /// Connects, with a time limit for every step.
    ///
    /// # Errors
    /// Says what failed, without secrets.
    pub async fn connect(spec: &SourceSpec) -> Result<Self, SourceError> {
        match spec {
            SourceSpec::Rtsp { url, credentials, transport, tls, follow } => {
                let described = rtsp::Described::fetch(url, credentials.as_ref(), *tls, follow).await?;
                let session = described.play(*transport).await?;
                Ok(Self::Rtsp(Box::new(session)))
            }
            SourceSpec::Whep { url, token } => {
                let session = Box::pin(whep::WhepConnection::connect(url, token.as_ref())).await?;
                Ok(Self::Whep(Box::new(session)))
            }
            SourceSpec::Published => Err(published::gone()),
        }
    }

    /// What it offers.
    pub fn offered(&self) -> &Offered {
        match self {
            Self::Rtsp(session) => session.offered(),
            Self::Whep(session) => session.offered(),
            Self::Published(session) => session.offered(),
        }
    }

    /// Waits for the next arrival. May be dropped at any time without losing one.
    ///
    /// # Errors
    /// The session is over.
    pub async fn next(&mut self) -> Result<Arrival, SourceError> {
        match self {
            Self::Rtsp(session) => session.next().await,
            Self::Whep(session) => session.next().await,
            Self::Published(session) => session.next().await,
        }
    }

    /// Requests a key frame where the protocol allows it; RTSP cameras send them on their own schedule.
    pub fn request_key_frame(&mut self) {
        match self {
            Self::Rtsp(_) => {}
            Self::Whep(session) => session.request_key_frame(),
            Self::Published(session) => session.request_key_frame(),
        }
    }
}
