//! The data folder: one process serves from it, and what belongs together is there together. A folder that has lost a
//! part is refused: a fresh start in it would have a new administrator, or a certificate authority that no device
//! trusts. Start at [`DataFolder::open`].

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::accounts::database::stored_mark;
use crate::accounts::{Accounts, DATABASE};
use crate::tls::AUTHORITY_KEY;

/// The file whose lock says that a server runs on this folder. Its first line is the server's process id, its second
/// line the marks that the database may have, see [`DataFolder::mark`].
pub const LOCK: &str = "lock";

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// It cannot be created, read or written.
    #[error("the data folder {0} cannot be used: {1}")]
    Io(PathBuf, io::Error),
    /// Another server uses it.
    #[error("the data folder {0} is in use by another server, process {1}")]
    InUse(PathBuf, String),
    /// The database file has no content.
    #[error(
        "{0} is empty: restore a backup; or, to start anew with new accounts, remove the folder's content"
    )]
    EmptyDatabase(PathBuf),
    /// The write-ahead log is that of another database.
    #[error(
        "{0}-wal is left over from another database than {0}: a database has been put in the place of one that was not \
         closed in order. To use it as it is, remove {0}-wal and {0}-shm; to restore a backup, use gatehouse restore"
    )]
    ForeignLog(PathBuf),
    /// There is a certificate authority, but no database.
    #[error(
        "{0} is missing, although the folder has a certificate authority ({1}): restore a backup; or, to start anew \
         with new accounts, remove the folder's content"
    )]
    LostDatabase(PathBuf, &'static str),
}

/// A data folder in use by this process.
#[derive(Debug)]
pub struct DataFolder {
    folder: PathBuf,
    /// The lock is given back when the file is closed, also if the process is killed.
    lock: File,
}

impl DataFolder {
    /// Creates the folder if necessary, accessible only by its owner, and takes it into use.
    ///
    /// # Errors
    /// See [`DataError`].
    pub fn open(folder: &Path) -> Result<Self, DataError> {
        let locked = Self::lock(folder)?;
        check(folder)?;
        check_log(folder)?;
        Ok(locked)
    }

    /// Takes a folder into use without looking at what is in it.
    ///
    /// # Errors
    /// It cannot be created or written, or another server uses it.
    pub fn lock(folder: &Path) -> Result<Self, DataError> {
        let failed = |error| DataError::Io(folder.to_owned(), error);
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true).mode(0o600);
        let lock = options.open(folder.join(LOCK)).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = (&lock).take(20).read_to_string(&mut holder);
                return Err(DataError::InUse(folder.to_owned(), holder.trim().to_owned()));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let marks = marks(folder);
        let locked = Self { folder: folder.to_owned(), lock };
        locked.write(&marks).map_err(failed)?;
        Ok(locked)
    }

    fn write(&self, marks: &[String]) -> io::Result<()> {
        let mut lock = &self.lock;
        lock.set_len(0)?;
        lock.rewind()?;
        write!(lock, "{}\n{}\n", std::process::id(), marks.join(" "))
    }

    /// Marks the database anew, so that the next start notices if another one is in its place: SQLite would replay the
    /// write-ahead log of this one over it.
    ///
    /// # Errors
    /// The folder or the database cannot be written.
    pub async fn mark(&self, accounts: &Accounts) -> Result<(), DataError> {
        let failed = |error| DataError::Io(self.folder.clone(), error);
        let mark = format!("{:032x}", rand::random::<u128>());
        // Between the two writes the database has either mark.
        let both: Vec<String> =
            stored_mark(&self.folder.join(DATABASE)).into_iter().chain([mark.clone()]).collect();
        self.write(&both).map_err(failed)?;
        let marked = accounts.mark(&mark).await.map_err(io::Error::other);
        marked.and_then(|()| self.write(&[mark])).map_err(failed)
    }

    /// Whether the folder is still there, with its database: it may be unmounted, removed or replaced while the server
    /// runs.
    ///
    /// # Errors
    /// What is missing.
    pub fn check_presence(&self) -> Result<(), DataError> {
        let failed = |path: &Path, error| DataError::Io(path.to_owned(), error);
        let own = self.lock.metadata().map_err(|error| failed(&self.folder, error))?;
        let named = std::fs::metadata(self.folder.join(LOCK)).map_err(|error| failed(&self.folder, error))?;
        if (own.dev(), own.ino()) != (named.dev(), named.ino()) {
            return Err(failed(&self.folder, io::Error::other("another folder is in its place")));
        }
        let database = self.folder.join(DATABASE);
        std::fs::metadata(&database).map(drop).map_err(|error| failed(&database, error))
    }
}

/// The marks in the lock file.
fn marks(folder: &Path) -> Vec<String> {
    let mut text = String::new();
    let read = File::open(folder.join(LOCK)).and_then(|lock| lock.take(256).read_to_string(&mut text));
    let marks = read.ok().and_then(|_| text.lines().nth(1)).unwrap_or_default();
    marks.split_whitespace().map(str::to_owned).collect()
}

/// Whether a write-ahead log that was left over belongs to the database.
///
/// # Errors
/// It belongs to another one.
pub fn check_log(folder: &Path) -> Result<(), DataError> {
    let database = folder.join(DATABASE);
    let log = folder.join(format!("{DATABASE}-wal"));
    let is_left = std::fs::metadata(log).is_ok_and(|metadata| metadata.len() > 0);
    let marks = marks(folder);
    if !is_left || marks.is_empty() || stored_mark(&database).is_some_and(|mark| marks.contains(&mark)) {
        return Ok(());
    }
    Err(DataError::ForeignLog(database))
}

/// Whether the folder is whole, or new.
fn check(folder: &Path) -> Result<(), DataError> {
    let database = folder.join(DATABASE);
    match std::fs::metadata(&database) {
        Ok(metadata) if metadata.len() == 0 => Err(DataError::EmptyDatabase(database)),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let has_authority = folder.join(AUTHORITY_KEY).exists();
            if has_authority { Err(DataError::LostDatabase(database, AUTHORITY_KEY)) } else { Ok(()) }
        }
        Err(error) => Err(DataError::Io(database, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_server_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let first = DataFolder::open(&data).unwrap();
        let error = DataFolder::open(&data).unwrap_err().to_string();
        assert!(error.ends_with(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        DataFolder::open(&data).unwrap();
    }

    #[test]
    fn a_folder_that_vanishes_is_noticed() {
        let parent = tempfile::tempdir().unwrap();
        let data = parent.path().join("data");
        let folder = DataFolder::open(&data).unwrap();
        std::fs::write(data.join(DATABASE), "something").unwrap();
        folder.check_presence().unwrap();
        let moved = parent.path().join("moved");
        std::fs::rename(&data, &moved).unwrap();
        assert!(folder.check_presence().is_err());
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join(DATABASE), "something").unwrap();
        std::fs::write(data.join(LOCK), "1").unwrap();
        assert!(folder.check_presence().unwrap_err().to_string().contains("another folder"));
        std::fs::remove_dir_all(&data).unwrap();
        std::fs::rename(&moved, &data).unwrap();
        folder.check_presence().unwrap();
        std::fs::remove_file(data.join(DATABASE)).unwrap();
        assert!(folder.check_presence().is_err());
    }

    #[test]
    fn a_folder_that_has_lost_its_database_is_not_started_anew() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        std::fs::write(data.join(DATABASE), "").unwrap();
        assert!(matches!(DataFolder::open(data), Err(DataError::EmptyDatabase(_))));
        std::fs::remove_file(data.join(DATABASE)).unwrap();
        let key = data.join(AUTHORITY_KEY);
        std::fs::create_dir_all(key.parent().unwrap()).unwrap();
        std::fs::write(&key, "key").unwrap();
        assert!(matches!(DataFolder::open(data), Err(DataError::LostDatabase(..))));
        std::fs::write(data.join(DATABASE), "something").unwrap();
        DataFolder::open(data).unwrap();
    }
}
