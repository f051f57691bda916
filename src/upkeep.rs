//! What runs beside the server's work: renewing certificates, removing old log entries, following other processes'
//! changes to the database, and watching the disk. Start at [`Upkeep::run`].

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::accounts::Accounts;
use crate::accounts::disk::Trouble;
use crate::clock::{self, Agreement};
use crate::data::DataFolder;
use crate::health::{Health, Severity};
use crate::media::Engine;
use crate::tls::Tls;

/// How often certificates are checked for renewal.
const CERTIFICATE_INTERVAL: Duration = Duration::from_secs(30);
/// How often old entries of the audit log and the call history are removed.
const LOG_INTERVAL: Duration = Duration::from_secs(3600);
/// How often it is checked that the data folder is still there.
const FOLDER_INTERVAL: Duration = Duration::from_secs(5);
/// How often the machine's clock is looked at.
const CLOCK_INTERVAL: Duration = Duration::from_secs(2);
/// Between attempts to write to a disk that could not be written.
const RECOVERY_INTERVAL: Duration = Duration::from_secs(2);

/// What needs upkeep. Cheap to clone.
#[derive(Clone)]
pub struct Upkeep {
    /// The accounts.
    pub accounts: Accounts,
    /// Retention of the audit log and the call history.
    pub keep_log: Duration,
    /// The certificates.
    pub tls: Arc<Tls>,
    /// The media engine.
    pub engine: Engine,
    /// The data folder, until the server is dropped: another one may use it then.
    pub folder: Weak<DataFolder>,
    /// Its path.
    pub data: PathBuf,
    /// Where problems are reported.
    pub health: Health,
}

impl Upkeep {
    /// Starts everything, until `stop`.
    pub fn run(self, stop: &CancellationToken) {
        let until = |stop: CancellationToken, work: futures::future::BoxFuture<'static, ()>| {
            tokio::spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = work => {}
                }
            });
        };
        until(stop.clone(), Box::pin(self.clone().renew_certificates()));
        until(stop.clone(), Box::pin(self.clone().forget_old_entries()));
        until(stop.clone(), Box::pin(self.clone().follow_others()));
        until(stop.clone(), Box::pin(self.clone().watch_folder()));
        until(stop.clone(), Box::pin(self.clone().follow_clock()));
        until(stop.clone(), Box::pin(self.follow_disk()));
    }

    async fn renew_certificates(self) {
        let mut interval = tokio::time::interval(CERTIFICATE_INTERVAL);
        let mut remembered = None;
        loop {
            tokio::select! {
                _ = interval.tick() => self.look_after_certificates(),
                () = self.tls.until_authority_is_given() => {}
            }
            let known = self.tls.known_authority();
            if known != remembered && self.accounts.remember_authority(known.clone()).await.is_ok() {
                remembered = known;
            }
        }
    }

    fn look_after_certificates(&self) {
        self.tls.refresh(self.accounts.clock().now(), &self.engine.addresses());
        match self.tls.authority_problem() {
            Some(problem) => {
                if self.health.begin("authority_invalid", Severity::Error, &problem) {
                    error!(code = "authority_invalid", "the local certificate authority: {problem}");
                }
            }
            None => drop(self.health.end("authority_invalid")),
        }
    }

    async fn forget_old_entries(self) {
        let mut interval = tokio::time::interval(LOG_INTERVAL);
        let mut clock = Agreement::new(Instant::now(), SystemTime::now());
        loop {
            interval.tick().await;
            let now = SystemTime::now();
            // A start in a wrong year must not delete what is recent.
            if !clock.holds(Instant::now(), now) {
                continue;
            }
            if let Err(error) = self.accounts.forget_log(now, self.keep_log).await {
                error!("cannot remove old entries of the audit log: {error}");
            }
            if let Err(error) = self.accounts.forget_expired().await {
                error!("cannot remove expired logins: {error}");
            }
            if let Err(error) = self.accounts.forget_calls(now, self.keep_log).await {
                error!("cannot remove old calls: {error}");
            }
        }
    }

    /// Adjusts what depends on the time when the machine's clock is set, and reports a clock that is certainly wrong.
    async fn follow_clock(self) {
        let clock = self.accounts.clock();
        let mut interval = tokio::time::interval(CLOCK_INTERVAL);
        loop {
            interval.tick().await;
            let wall = SystemTime::now();
            if wall < clock::built() {
                if self.health.begin("clock_wrong", Severity::Warning, &date(wall)) {
                    warn!(code = "clock_wrong", clock = date(wall), "the machine's clock is wrong");
                }
                continue;
            }
            self.health.end("clock_wrong");
            let Some(step) = clock.step() else { continue };
            match self.accounts.adopt(step).await {
                Ok(()) => {
                    warn!(from = date(step.from), to = date(step.to), "the machine's clock has been set");
                    self.tls.clock_was_set();
                    self.look_after_certificates();
                }
                Err(error) => error!("cannot follow the machine's clock: {error}"),
            }
        }
    }

    /// Applies what other processes, such as `gatehouse user`, write while the server runs.
    async fn follow_others(self) {
        loop {
            if let Err(error) = self.accounts.follow_others().await {
                error!("polling for external changes to the database failed: {error}");
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn watch_folder(self) {
        const CODE: &str = "data_lost";
        let mut interval = tokio::time::interval(FOLDER_INTERVAL);
        loop {
            interval.tick().await;
            let Some(presence) = self.folder.upgrade().map(|folder| folder.check_presence()) else { return };
            match presence {
                Ok(()) if self.health.end(CODE) => info!("the data folder is back"),
                Ok(()) => {}
                Err(error) => {
                    let error = error.to_string();
                    if self.health.begin(CODE, Severity::Error, &error) {
                        error!(code = CODE, "{error}: changes will be lost; bring it back, or restart");
                    }
                }
            }
        }
    }

    /// Reports a disk that cannot be written, and tries until it can.
    async fn follow_disk(self) {
        let mut trouble = self.accounts.disk_trouble();
        loop {
            let current = *trouble.borrow_and_update();
            let Some(current) = current else {
                if trouble.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let place = self.data.display().to_string();
            let code = current.code();
            if self.health.begin(code, Severity::Error, &place) {
                error!(code, folder = place, "the disk cannot be written: logins go on, changes are refused");
            }
            tokio::time::sleep(RECOVERY_INTERVAL).await;
            match self.accounts.recover().await {
                Ok(true) => {
                    for trouble in [Trouble::Full, Trouble::Failed] {
                        self.health.end(trouble.code());
                    }
                    info!(folder = place, "the disk can be written again");
                }
                Ok(false) => {}
                Err(error) => error!("cannot write what has been waiting for the disk: {error}"),
            }
        }
    }
}

/// A time for people.
fn date(at: SystemTime) -> String {
    let format = &time::format_description::well_known::Rfc3339;
    let seconds = at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let at = i64::try_from(seconds).ok().and_then(|at| time::OffsetDateTime::from_unix_timestamp(at).ok());
    at.and_then(|at| at.format(format).ok()).unwrap_or_default()
}
