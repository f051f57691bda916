//! Looks after cameras that nobody watches: asks one for its description now and then, so that a broken camera is known
//! before somebody needs it. It asks for no media. Start at [`Check::run`].

use std::time::{Duration, Instant};

use futures::future::BoxFuture;

use super::backoff::Hope;
use super::rtsp::Described;
use super::source::{SourceError, SourceSpec};
use super::status::AudioStatus;

/// After failures that need an operator, such as a wrong password, the pause is doubled up to this many times: many
/// cameras lock an account after some attempts.
const MOST_DOUBLINGS: u32 = 4;

/// See the module. One for each stream.
pub struct Check {
    /// Zero: never.
    interval: Duration,
    due: Option<Instant>,
    running: Option<BoxFuture<'static, Result<Option<AudioStatus>, SourceError>>>,
    refusals: u32,
}

impl Check {
    /// Of a source; the first one is due between a fifth of the interval and all of it, by `random` in 0..1.
    pub fn new(source: &SourceSpec, interval: Duration, now: Instant, random: f64) -> Self {
        let applies = matches!(source, SourceSpec::Rtsp { .. }) && !interval.is_zero();
        let interval = if applies { interval } else { Duration::ZERO };
        let due = applies.then(|| now + interval.mul_f64(0.2 + 0.8 * random));
        Self { interval, due, running: None, refusals: 0 }
    }

    /// When the next one is due.
    pub fn due(&self) -> Option<Instant> {
        self.due.filter(|_| self.running.is_none())
    }

    /// Begins.
    pub fn start(&mut self, source: &SourceSpec) {
        let SourceSpec::Rtsp { url, credentials, tls, follow, .. } = source.clone() else { return };
        self.running = Some(Box::pin(async move {
            let described = Described::fetch(&url, credentials.as_ref(), tls, &follow).await?;
            described.check().map(|()| described.audio())
        }));
    }

    /// Waits until one is done; for ever if none runs. May be dropped at any time.
    pub async fn run(&mut self) -> Result<Option<AudioStatus>, SourceError> {
        match &mut self.running {
            Some(running) => running.await,
            None => std::future::pending().await,
        }
    }

    /// One is done, or somebody watches now: the next one is due after the interval, give or take a quarter.
    pub fn done(&mut self, failure: Option<&SourceError>, now: Instant, random: f64) {
        self.running = None;
        self.refusals = match failure {
            Some(error) if error.hope == Hope::Slowly => (self.refusals + 1).min(MOST_DOUBLINGS),
            _ => 0,
        };
        let pause = self.interval * (1 << self.refusals);
        self.due = (!self.interval.is_zero()).then(|| now + pause.mul_f64(0.75 + 0.5 * random));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::streams::source::{TlsTrust, Transport};

    const FIVE: Duration = Duration::from_secs(300);

    fn camera() -> SourceSpec {
        let url = url::Url::parse("rtsp://127.0.0.1:1/x").unwrap();
        let (transport, tls, follow) = (Transport::Auto, TlsTrust::System, Vec::new());
        SourceSpec::Rtsp { url, credentials: None, transport, tls, follow }
    }

    #[test]
    fn checks_are_spread_out() {
        let now = Instant::now();
        let due = |random| Check::new(&camera(), FIVE, now, random).due().unwrap() - now;
        assert_eq!((due(0.0), due(1.0)), (FIVE / 5, FIVE));
        assert_eq!(Check::new(&camera(), Duration::ZERO, now, 0.5).due(), None);
        assert_eq!(Check::new(&SourceSpec::Published, FIVE, now, 0.5).due(), None);
    }

    #[test]
    fn a_refused_login_is_tried_less_often() {
        let now = Instant::now();
        let mut check = Check::new(&camera(), FIVE, now, 0.5);
        let mut pauses = Vec::new();
        for _ in 0..6 {
            check.done(Some(&SourceError::slowly("camera_login", "no")), now, 0.5);
            pauses.push((check.due().unwrap() - now).as_secs() / 300);
        }
        assert_eq!(pauses, [2, 4, 8, 16, 16, 16]);
        check.done(Some(&SourceError::soon("camera_unreachable", "no")), now, 0.5);
        assert_eq!(check.due().unwrap() - now, FIVE);
    }
}
