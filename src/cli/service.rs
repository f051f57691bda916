//! The program as a service: signals, and what systemd is told (sd_notify(3)). Without systemd nothing is told. Start
//! at [`Signals`] and [`feed_watchdog`].

use std::io;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, warn};

use crate::Gatehouse;
use crate::media::Engine;
use crate::reload::Reload;

/// The signals that a server handles. From its creation on no other way of reloading, rotating logs or the like ends it.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// SIGHUP reloads the configuration, which `reload` listens for; without a file there is nothing to reload. Nobody
    /// listens for the others. What is kept here replaces the system's default, which is to end the process.
    _kept: [Signal; 3],
}

impl Signals {
    /// Installs the handlers.
    ///
    /// # Errors
    /// The system refuses.
    pub fn install() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            _kept: [
                signal(SignalKind::hangup())?,
                signal(SignalKind::user_defined1())?,
                signal(SignalKind::user_defined2())?,
            ],
        })
    }

    /// Returns when the program should end.
    pub async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!("cannot notify systemd: {error}");
    }
}

/// The server is ready.
pub fn ready(gatehouse: &Gatehouse) {
    let status = format!("listening on {}", gatehouse.address());
    tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
}

/// The configuration is being reloaded, or has been.
pub fn reloading(reload: Reload) {
    match reload {
        Reload::Began => match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(_) => tell(&[NotifyState::Reloading]),
        },
        Reload::Ended { valid: true } => {
            tell(&[NotifyState::Ready, NotifyState::Status("configuration reloaded")]);
        }
        Reload::Ended { valid: false } => {
            let status = "the configuration is invalid: the previous one stays in effect";
            tell(&[NotifyState::Ready, NotifyState::Status(status)]);
        }
    }
}

/// The server stops.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Feeds systemd's watchdog as long as every media thread answers. Returns at once if there is no watchdog.
pub async fn feed_watchdog(engine: Engine) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let interval = (limit / 4).max(Duration::from_millis(10));
    loop {
        match tokio::time::timeout(interval, engine.answers()).await {
            Ok(true) => tell(&[NotifyState::Watchdog]),
            _ => error!(code = "internal", "a media thread does not answer: the watchdog is not fed"),
        }
        tokio::time::sleep(interval).await;
    }
}
