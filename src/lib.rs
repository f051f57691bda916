//! Gatehouse: RTSP cameras in the browser over WebRTC, in one program with one port.
//!
//! - [`config`] reads and checks the configuration.
//! - [`streams`] pulls cameras and fans their packets out; [`media`] sends them to viewers.
//! - [`cameras`] ties the two to the configuration; [`http`] is the API, WHEP and the pages.
//! - [`cli`] is the command line, [`probe`] examines a camera.
//!
//! This file is the only place where they are wired together: [`Gatehouse::start`].

pub mod cameras;
pub mod cli;
pub mod config;
pub mod http;
pub mod ids;
pub mod media;
pub mod probe;
pub mod reload;
pub mod streams;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use cameras::Cameras;
use config::Config;
use media::socket::MediaSocket;
use media::{Engine, EngineConfig};
use streams::Streams;

/// Tries for a port that is free for TCP and UDP, when any will do.
const PORT_TRIES: usize = 16;

/// A running server.
pub struct Gatehouse {
    address: SocketAddr,
    cameras: Cameras,
    engine: Engine,
    stop: CancellationToken,
}

impl Gatehouse {
    /// Starts everything that a configuration names.
    ///
    /// # Errors
    /// The port is taken, or the system refuses a thread or a socket.
    pub async fn start(config: &Config) -> io::Result<Self> {
        let (listener, socket) = bind(config.listen).await?;
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let engine_config = EngineConfig {
            shards: if config.media.threads == 0 { cores } else { config.media.threads },
            max_viewers: config.media.max_viewers,
            public_hosts: config.media.public_hosts.clone(),
        };
        let engine = Engine::start(socket, &engine_config, stop.clone())?;
        engine.refresh_addresses().await;
        let cameras = Cameras::new(Streams::default(), engine.clone());
        cameras.apply(config).await;
        let ice_servers = Arc::new(config.media.ice_servers.clone());
        let app = http::App { cameras: cameras.clone(), engine: engine.clone(), ice_servers };
        tokio::spawn(http::serve::serve(listener, http::router(app), engine.clone(), stop.clone()));
        Ok(Self { address, cameras, engine, stop })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its cameras.
    pub fn cameras(&self) -> &Cameras {
        &self.cameras
    }

    /// Its media engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Ends everything. Viewers are told.
    pub fn stop(&self) {
        self.stop.cancel();
    }
}

impl Drop for Gatehouse {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Binds TCP and UDP to the same port.
async fn bind(listen: SocketAddr) -> io::Result<(TcpListener, MediaSocket)> {
    let mut tries = if listen.port() == 0 { PORT_TRIES } else { 1 };
    loop {
        let listener = TcpListener::bind(listen).await?;
        match MediaSocket::bind(listener.local_addr()?) {
            Ok(socket) => return Ok((listener, socket)),
            Err(error) if tries == 1 => return Err(error),
            Err(_) => tries -= 1,
        }
    }
}
