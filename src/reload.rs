//! Notices that the configuration file has changed, or that SIGHUP came, and applies it to the running cameras.
//! A broken file is reported and changes nothing.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

use crate::cameras::Cameras;
use crate::config::{Config, Overrides};

/// How often the file is looked at. By polling: editors replace files, volumes are mounted over the network, and
/// a look at one file costs nothing.
const INTERVAL: Duration = Duration::from_secs(1);

/// What of a file shows that it has changed.
type Stamp = Option<(SystemTime, u64)>;

fn stamp(path: &Path) -> Stamp {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

/// Follows a file until the program ends.
pub async fn follow(path: PathBuf, overrides: Overrides, started_with: Config, cameras: Cameras) {
    let mut hangup = match signal(SignalKind::hangup()) {
        Ok(hangup) => hangup,
        Err(error) => return error!("SIGHUP cannot be listened for, changes are not picked up: {error}"),
    };
    let mut current = started_with;
    let mut seen = stamp(&path);
    loop {
        let forced = tokio::select! {
            _ = hangup.recv() => true,
            () = tokio::time::sleep(INTERVAL) => false,
        };
        let now = stamp(&path);
        if !forced && (now == seen || now.is_none()) {
            continue;
        }
        seen = now;
        match Config::load(Some(&path), &overrides) {
            Ok(config) => {
                info!(file = %path.display(), "configuration read again");
                warn_of_restart(&current, &config);
                match cameras.apply(&config).await {
                    Ok(()) => current = config,
                    Err(error) => error!("the cameras stay as they are: {error}"),
                }
            }
            Err(problems) => {
                for problem in &problems.0 {
                    error!("{problem}");
                }
                error!("the configuration has problems: the one before it stays in force");
            }
        }
    }
}

fn warn_of_restart(old: &Config, new: &Config) {
    let fixed = |config: &Config| {
        let server = (config.listen, config.data.clone(), config.log.clone(), config.media.clone());
        let web = (
            config.embed_from.clone(),
            config.trusted_proxies.clone(),
            config.hosts.clone(),
            config.keep_log,
        );
        (server, web, config.tls.clone(), config.limits.clone())
    };
    if fixed(old) != fixed(new) {
        warn!("changes in [server], [tls], [limits] and [media] take effect after a restart");
    }
}
