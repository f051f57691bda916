//! The local authority from start to start: loaded, made if there is none, replaced if it is of no use. One that devices
//! have been told to trust is never replaced by itself: that would lock them out. Creating certificates is in
//! `local_ca`. Start at [`Tls::load_authority`].

use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::local_ca::{self, Name, Pair};
use super::{
    Authority, Tls, TlsError, certified, files, fingerprint, first_certificate, host_name, validity,
};

/// The files' name, without `.crt` and `.key`.
const NAME: &str = "ca";

/// What is remembered about the authority outside of its files, to notice that they are lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// SHA-256, as browsers show it.
    pub fingerprint: String,
    /// Whether its certificate has been downloaded, so that devices may trust it.
    pub given: bool,
}

/// The authority's state.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    known: Option<Known>,
    /// Why browsers do not accept it now.
    problem: Option<String>,
}

/// What to do about the files.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Decision {
    Keep,
    Make,
    /// It is lost, and devices trust it.
    Lost,
}

/// `found` is the fingerprint of what is in the folder, and whether it is valid now.
fn decide(found: Option<(&str, bool)>, known: Option<&Known>, new_wanted: bool) -> Decision {
    match (found, known) {
        _ if new_wanted => Decision::Make,
        (None, Some(known)) if known.given => Decision::Lost,
        (None, _) => Decision::Make,
        (Some((_, true)), _) => Decision::Keep,
        // Of an unknown one devices may have been told.
        (Some((fingerprint, false)), Some(known)) if known.fingerprint == fingerprint && !known.given => {
            Decision::Make
        }
        (Some((_, false)), _) => Decision::Keep,
    }
}

impl Tls {
    /// Loads the authority, or makes one.
    ///
    /// # Errors
    /// Its files are damaged, or lost although devices trust it.
    pub(super) fn load_authority(
        &self,
        now: SystemTime,
        known: Option<Known>,
        new_wanted: bool,
    ) -> Result<(), TlsError> {
        let found = if new_wanted { None } else { self.stored_authority()? };
        let found = found.map(|pair| self.examined(pair, now)).transpose()?;
        let facts = found.as_ref().map(|(_, fingerprint, problem)| (fingerprint.as_str(), problem.is_none()));
        match (decide(facts, known.as_ref(), new_wanted), found) {
            (Decision::Keep, Some((pair, fingerprint, problem))) => {
                let known = known.filter(|known| known.fingerprint == fingerprint);
                let known = known.unwrap_or(Known { fingerprint, given: true });
                self.use_authority(pair.cert, known, problem);
                Ok(())
            }
            (Decision::Lost, _) => Err(TlsError::Certificate(format!(
                "the certificate authority that devices trust ({}) is missing: {}.key and .crt. Restore a backup, or \
                 start once with --new-authority, and install the new one on all devices",
                known.map(|known| known.fingerprint).unwrap_or_default(),
                self.folder.join(NAME).display()
            ))),
            _ => self.make_authority(now),
        }
    }

    fn stored_authority(&self) -> Result<Option<Pair>, TlsError> {
        let path = |ending: &str| self.folder.join(format!("{NAME}.{ending}"));
        let (cert, key) = (path("crt"), path("key"));
        let lost = |missing: PathBuf, beside: PathBuf| {
            TlsError::Certificate(format!(
                "{} is missing beside {}: restore a backup, or start once with --new-authority, and install the new \
                 certificate authority on all devices",
                missing.display(),
                beside.display()
            ))
        };
        match (cert.exists(), key.exists()) {
            (true, false) => Err(lost(key, cert)),
            (false, true) => Err(lost(cert, key)),
            _ => files::load(&self.folder, NAME),
        }
    }

    /// The pair with its fingerprint, and why it cannot be used now.
    fn examined(&self, pair: Pair, now: SystemTime) -> Result<(Pair, String, Option<String>), TlsError> {
        let der = first_certificate(&pair.cert)?;
        certified(&pair, &self.provider).map_err(|error| {
            let files = self.folder.join(NAME);
            TlsError::Certificate(format!("{}.key: {error}: restore a backup", files.display()))
        })?;
        let problem = validity::problem(&der, now);
        Ok((pair, fingerprint(&der), problem))
    }

    fn make_authority(&self, now: SystemTime) -> Result<(), TlsError> {
        let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        files::set_aside(&self.folder, NAME, &format!("old-{seconds}"))?;
        let pair = local_ca::make_authority(&host_name(), &self.names, now)?;
        files::store(&self.folder, NAME, &pair)?;
        let fingerprint = fingerprint(&first_certificate(&pair.cert)?);
        info!(folder = %self.folder.display(), "local certificate authority created");
        self.use_authority(pair.cert, Known { fingerprint, given: false }, None);
        // It did not issue the current certificate.
        self.current.0.store(None);
        files::set_aside(&self.folder, "server", "old")
    }

    fn use_authority(&self, cert: String, known: Known, problem: Option<String>) {
        let fingerprint = known.fingerprint.clone();
        self.authority.store(Some(Arc::new(Authority { cert, fingerprint })));
        *self.state() = State { known: Some(known), problem };
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.authority_state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The authority's certificate is being downloaded.
    pub fn authority_is_given(&self) {
        if let Some(known) = &mut self.state().known
            && !std::mem::replace(&mut known.given, true)
        {
            self.authority_given.notify_one();
        }
    }

    /// Returns when the authority's certificate is downloaded for the first time.
    pub async fn until_authority_is_given(&self) {
        self.authority_given.notified().await;
    }

    /// What has to be remembered for the next start.
    pub fn known_authority(&self) -> Option<Known> {
        self.state().known.clone()
    }

    /// Why browsers do not accept the authority now.
    pub fn authority_problem(&self) -> Option<String> {
        self.state().problem.clone()
    }

    /// Renews the server's certificate if necessary; and the authority, if it is not valid and no device trusts it.
    pub(super) fn renew(&self, now: SystemTime, addresses: &[std::net::IpAddr]) -> Result<(), TlsError> {
        let broken = || TlsError::Certificate("the local authority is missing from the data folder".into());
        let (_, _, problem) = self.examined(self.stored_authority()?.ok_or_else(broken)?, now)?;
        let given = self.state().known.as_ref().is_none_or(|known| known.given);
        if problem.is_some() && !given {
            self.make_authority(now)?;
        } else {
            self.state().problem = problem;
        }
        let authority = self.stored_authority()?.ok_or_else(broken)?;
        let mut names = self.names.clone();
        for address in addresses.iter().copied().map(Name::Ip) {
            if !names.contains(&address) {
                names.push(address);
            }
        }
        let (names, others) = local_ca::within_constraints(&authority.cert, names)?;
        let stored = files::load(&self.folder, "server")?;
        // A broken file is replaced like an expired one.
        let good =
            stored.filter(|pair| matches!(local_ca::needs_renewal(&pair.cert, &names, now), Ok(false)));
        if let Some(pair) = good {
            if self.current.0.load().is_some() || self.show(&pair).is_ok() {
                return Ok(());
            }
            warn!("{}/server.key is damaged: a new certificate is issued", self.folder.display());
        }
        if !others.is_empty() {
            warn!(
                names = ?others,
                "the local authority may not certify these names: start once with --new-authority, and install the new one \
                 on all devices"
            );
        }
        let pair = local_ca::issue(&authority, &names, now)?;
        files::store(&self.folder, "server", &pair)?;
        self.show(&pair)?;
        info!(?names, "new certificate in use");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_that_devices_trust_is_never_replaced_by_itself() {
        let known = |given| Some(Known { fingerprint: "AB".into(), given });
        let table = [
            // There is none.
            (None, None, Decision::Make),
            (None, known(false), Decision::Make),
            (None, known(true), Decision::Lost),
            // It is valid.
            (Some(("AB", true)), known(false), Decision::Keep),
            (Some(("CD", true)), known(true), Decision::Keep),
            // It is not valid now.
            (Some(("AB", false)), known(false), Decision::Make),
            (Some(("AB", false)), known(true), Decision::Keep),
            (Some(("CD", false)), known(false), Decision::Keep),
            (Some(("AB", false)), None, Decision::Keep),
        ];
        for (found, known, expected) in table {
            assert_eq!(decide(found, known.as_ref(), false), expected, "{found:?} {known:?}");
            assert_eq!(decide(found, known.as_ref(), true), Decision::Make);
        }
    }
}
