//! Reloads the configuration when the file, or one that its values are read from, changes, or on SIGHUP, and applies it to the running cameras. An invalid file
//! is reported and changes nothing. All other settings require a restart. Start at [`follow`].

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

use crate::cameras::Cameras;
use crate::config::{Config, Overrides};

/// Polling interval. Polling is used because editors replace files and volumes may be network mounts, where change
/// notifications are unreliable, and checking one file is cheap.
const INTERVAL: Duration = Duration::from_secs(1);

/// Change fingerprint of a file: modification time and size.
type Stamp = Option<(SystemTime, u64)>;

fn stamp(path: &Path) -> Stamp {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

/// The fingerprints of the file and of those that its values are read from. A file that is missing for a moment, while
/// it is being replaced, counts as unchanged.
fn stamps(path: &Path, config: &Config, seen: &[Stamp]) -> Vec<Stamp> {
    let paths = std::iter::once(path).chain(config.files.iter().map(PathBuf::as_path));
    let known = seen.iter().copied().chain(std::iter::repeat(None));
    paths.zip(known).map(|(path, known)| stamp(path).or(known)).collect()
}

/// What happens to the configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reload {
    /// It is being read.
    Began,
    /// It has been applied, or it is invalid and changes nothing.
    Ended {
        /// Whether it has been applied.
        valid: bool,
    },
}

/// Watches a file until the program ends. `on_reload` is called at the beginning and at the end of each reload.
pub async fn follow(
    path: PathBuf,
    overrides: Overrides,
    started_with: Config,
    cameras: Cameras,
    mut on_reload: impl FnMut(Reload) + Send,
) {
    let mut hangup = match signal(SignalKind::hangup()) {
        Ok(hangup) => hangup,
        Err(error) => return error!("cannot listen for SIGHUP, changes are not picked up: {error}"),
    };
    let mut current = started_with;
    let mut seen = stamps(&path, &current, &[]);
    loop {
        let forced = tokio::select! {
            _ = hangup.recv() => true,
            () = tokio::time::sleep(INTERVAL) => false,
        };
        let now = stamps(&path, &current, &seen);
        if !forced && now == seen {
            continue;
        }
        seen = now;
        on_reload(Reload::Began);
        let loaded = Config::load(Some(&path), &overrides);
        // An editor or a copy that has just begun, or has failed: nobody means "replace everything by the demo" by it.
        let emptied = !current.cameras.is_empty()
            && std::fs::read_to_string(&path).is_ok_and(|text| text.trim().is_empty());
        if emptied {
            error!(file = %path.display(), "the configuration file is empty: the previous one stays in effect");
            on_reload(Reload::Ended { valid: false });
            continue;
        }
        let valid = loaded.is_ok();
        match loaded {
            Ok(config) => {
                info!(file = %path.display(), "configuration reloaded");
                warn_of_restart(&current, &config);
                match cameras.apply(&config).await {
                    Ok(()) => {
                        current = config;
                        // The file itself may have changed while it was being read.
                        let itself = seen.first().copied().flatten();
                        seen = stamps(&path, &current, &[]);
                        seen[0] = itself;
                    }
                    Err(error) => error!("cannot update the cameras, they stay unchanged: {error}"),
                }
            }
            Err(problems) => {
                for problem in &problems.0 {
                    error!("{problem}");
                }
                error!("the configuration is invalid: the previous one stays in effect");
            }
        }
        on_reload(Reload::Ended { valid });
    }
}

fn warn_of_restart(old: &Config, new: &Config) {
    let fixed = |config: &Config| {
        let server = (config.listen, config.data.clone(), config.log.clone(), config.media.clone());
        let web = (
            config.embed_from.clone(),
            config.trusted_proxies.clone(),
            config.hosts.clone(),
            config.base_path.clone(),
            config.keep_log,
        );
        (server, web, config.tls.clone(), config.limits.clone(), config.calls)
    };
    if fixed(old) != fixed(new) {
        warn!("changes in [server], [tls], [limits], [media] and [calls] take effect after a restart");
    }
}
