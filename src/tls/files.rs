//! Certificate and key files: our own in the data folder with mode 0600, and those that another program renews.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::TlsError;
use super::local_ca::Pair;

/// Largest accepted file.
const MOST: u64 = 1 << 20;

fn read(path: &Path) -> Result<String, TlsError> {
    let fail = |error| TlsError::File(path.to_owned(), error);
    if fs::metadata(path).map_err(fail)?.len() > MOST {
        return Err(fail(io::Error::other("too large")));
    }
    fs::read_to_string(path).map_err(fail)
}

/// Loads one of our own pairs, if it exists.
pub fn load(folder: &Path, name: &str) -> Result<Option<Pair>, TlsError> {
    let (cert, key) = (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")));
    if !cert.exists() || !key.exists() {
        return Ok(None);
    }
    Ok(Some(Pair { cert: read(&cert)?, key: read(&key)? }))
}

/// Creates a folder that only its owner can access; an existing one gets that mode too.
pub fn private_folder(folder: &Path) -> Result<(), TlsError> {
    let fail = |error| TlsError::File(folder.to_owned(), error);
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(fail)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).map_err(fail)
}

/// Stores one of our own pairs, each file atomically, and none before both have been written: the disk may be full.
pub fn store(folder: &Path, name: &str, pair: &Pair) -> Result<(), TlsError> {
    private_folder(folder)?;
    let mut written = Vec::new();
    for (ending, text) in [("key", &pair.key), ("crt", &pair.cert)] {
        let path = folder.join(format!("{name}.{ending}"));
        let fresh = folder.join(format!("{name}.{ending}.new"));
        let fail = |error| TlsError::File(path.clone(), error);
        let _ = fs::remove_file(&fresh);
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh).map_err(fail)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(fail)?;
        written.push((fresh, path));
    }
    for (fresh, path) in written {
        fs::rename(&fresh, &path).map_err(|error| TlsError::File(path.clone(), error))?;
    }
    Ok(())
}

/// Renames one of our own pairs, if it exists: `ca.key` becomes `ca.key.{ending}`.
pub fn set_aside(folder: &Path, name: &str, ending: &str) -> Result<(), TlsError> {
    for path in ["key", "crt"].map(|kind| folder.join(format!("{name}.{kind}"))) {
        let mut aside = path.clone().into_os_string();
        aside.push(format!(".{ending}"));
        match fs::rename(&path, aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(TlsError::File(path, error)),
            _ => {}
        }
    }
    Ok(())
}

/// Files that another program renews.
pub struct Files {
    cert: PathBuf,
    key: PathBuf,
    last: Mutex<Option<Pair>>,
}

impl Files {
    /// At these paths.
    pub fn new(cert: &Path, key: &Path) -> Self {
        Self { cert: cert.to_owned(), key: key.to_owned(), last: Mutex::new(None) }
    }

    /// Their contents, if they differ from those last in use.
    pub fn changed(&self) -> Result<Option<Pair>, TlsError> {
        let pair = Pair { cert: read(&self.cert)?, key: read(&self.key)? };
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let same = last.as_ref().is_some_and(|last| last.cert == pair.cert && last.key == pair.key);
        Ok((!same).then_some(pair))
    }

    /// An error with the files' paths.
    pub fn name(&self, error: &TlsError) -> TlsError {
        let (cert, key) = (self.cert.display(), self.key.display());
        TlsError::Certificate(format!("{cert} with {key}: {error}"))
    }

    /// Records that these contents are now in use.
    pub fn taken(&self, pair: &Pair) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(pair.clone());
    }
}
