//! The built-in simulated camera: a real RTSP server that loops an H.264 clip, with a tone as G.711 audio and, on
//! request, the faults of real cameras. `clip` reads the clip, `rtsp` speaks RTSP, `send` paces the packets, `tone`
//! generates the audio. It shares the reading of messages (`crate::rtsp`) with the RTSP client, and nothing else; start reading at [`DemoCamera::start`].

mod clip;
mod login;
mod rtsp;
mod send;
mod tone;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use clip::{Clip, ClipError};

/// Maximum number of simultaneous clients.
const MAX_CLIENTS: usize = 64;

/// The authentication scheme that the camera requires.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LoginScheme {
    /// RFC 7617.
    Basic,
    /// RFC 7616 with MD5, as used by cameras.
    #[default]
    Digest,
}

/// What the simulated camera plays and how.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    /// An Annex-B file; the bundled clip if there is none.
    pub clip: Option<PathBuf>,
    /// Frames per second.
    pub fps: f64,
    /// Whether there is G.711 sound.
    pub audio: bool,
    /// The user name, password and scheme that it requires.
    pub login: Option<(String, String, LoginScheme)>,
    /// The largest RTP payload; up to 65,000 over TCP.
    pub mtu: usize,
    /// Whether the SDP carries the parameter sets.
    pub sprop: bool,
    /// Simulated faults.
    pub faults: Faults,
}

impl Default for DemoOptions {
    fn default() -> Self {
        Self {
            clip: None,
            fps: 25.0,
            audio: true,
            login: None,
            mtu: 1400,
            sprop: true,
            faults: Faults::default(),
        }
    }
}

/// Faults of a session; times count from its PLAY.
#[derive(Clone, Default, Debug)]
pub struct Faults {
    /// Stops sending, with the connection left open.
    pub silent_after: Option<Duration>,
    /// Stops sending video, while audio continues.
    pub freeze_after: Option<Duration>,
    /// Stops sending audio, while video continues.
    pub mute_after: Option<Duration>,
    /// Closes the connection.
    pub close_after: Option<Duration>,
    /// Sends bytes that are not RTSP.
    pub garbage_after: Option<Duration>,
    /// Timestamps jump by a million seconds.
    pub jump_after: Option<Duration>,
    /// Switches to another clip, with other parameter sets and another size.
    pub switch: Option<(Duration, PathBuf)>,
    /// Drops every n-th packet.
    pub drop_every: Option<u64>,
    /// All time stamps of the video are equal.
    pub frozen_clock: bool,
    /// Accepts TCP and sends nothing there.
    pub silent_over_tcp: bool,
}

/// State shared by all connections.
struct Shared {
    options: DemoOptions,
    clip: Clip,
    second_clip: Option<Clip>,
    started: Instant,
}

/// A running simulated camera. Dropping it ends it.
pub struct DemoCamera {
    address: SocketAddr,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl DemoCamera {
    /// Starts a camera on `listen` (port 0 for any).
    ///
    /// # Errors
    /// The port is taken, or the clip cannot be read.
    pub async fn start(listen: SocketAddr, options: DemoOptions) -> std::io::Result<Self> {
        let invalid = |error: ClipError| std::io::Error::new(std::io::ErrorKind::InvalidData, error);
        let clip = match &options.clip {
            Some(path) => Clip::read(path).map_err(invalid)?,
            None => Clip::bundled().map_err(invalid)?,
        };
        let second_clip = match &options.faults.switch {
            Some((_, path)) => Some(Clip::read(path).map_err(invalid)?),
            None => None,
        };
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { options, clip, second_clip, started: Instant::now() });
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(accept(listener, shared, stop.clone(), tasks.clone()));
        Ok(Self { address, stop, tasks })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its RTSP URL.
    pub fn url(&self) -> String {
        format!("rtsp://{}/demo", self.address)
    }

    /// Ends it and waits until its port is free again.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for DemoCamera {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken, tasks: TaskTracker) {
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                // Most likely out of file descriptors, which is temporary.
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        if tasks.len() > MAX_CLIENTS {
            continue;
        }
        let (shared, stop) = (shared.clone(), stop.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                _ = Box::pin(rtsp::serve(stream, shared)) => {}
            }
        });
    }
}
