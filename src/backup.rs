//! Backup and restore of the data folder: one archive with a consistent copy of the database, the certificate authority
//! and certificates. It contains keys and password hashes, and is readable by its owner alone. Start at [`back_up`] and
//! [`restore`].

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use tar::{Archive, Builder, EntryType};

use crate::accounts::{AccountError, Accounts, DATABASE};
use crate::data::{DataError, DataFolder, LOCK};

/// Files in an archive: a data folder has about ten.
const MAX_FILES: usize = 10_000;
/// Bytes of an archive's content.
const MAX_BYTES: u64 = 64 << 30;
/// What a restore sets aside, with the time.
const SET_ASIDE: &str = "before-restore-";
/// A folder in which a backup or a restore is being made.
const UNFINISHED: &str = "unfinished-";

/// Why there is no backup, or nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file cannot be read or written.
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
    /// The database cannot be read.
    #[error(transparent)]
    Database(#[from] AccountError),
    /// The folder is in use, or cannot be.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The file is not an archive that [`back_up`] has made.
    #[error("{0} is not a backup of Gatehouse: {1}")]
    NotABackup(PathBuf, String),
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_owned();
    move |error| BackupError::Io(path, error)
}

/// A folder that is removed when it is dropped.
struct Unfinished(PathBuf);

impl Unfinished {
    fn new(parent: &Path) -> Result<Self, BackupError> {
        let path = parent.join(format!("{UNFINISHED}{}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&path).map_err(failed(&path))?;
        Ok(Self(path))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Writes an archive of a data folder, also while a server runs on it. An existing file is replaced only by a complete
/// one.
///
/// # Errors
/// See [`BackupError`].
pub async fn back_up(data: &Path, file: &Path) -> Result<(), BackupError> {
    let unfinished = Unfinished::new(data)?;
    let snapshot = unfinished.0.join(DATABASE);
    let (accounts, _) = Accounts::open(data, None).await?;
    accounts.snapshot(&snapshot).await?;
    let fresh = file.with_file_name(format!(
        "{}.{}.new",
        file.file_name().unwrap_or_default().to_string_lossy(),
        std::process::id()
    ));
    let written = write_archive(data, &snapshot, &fresh);
    let moved = written.and_then(|()| std::fs::rename(&fresh, file).map_err(failed(file)));
    if moved.is_err() {
        let _ = std::fs::remove_file(&fresh);
    }
    moved
}

fn write_archive(data: &Path, snapshot: &Path, file: &Path) -> Result<(), BackupError> {
    let out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).map_err(failed(file))?;
    let mut archive = Builder::new(out);
    archive.append_path_with_name(snapshot, DATABASE).map_err(failed(snapshot))?;
    for path in contents(data)? {
        let Some(name) = path.file_name().filter(|name| !name.to_string_lossy().starts_with(DATABASE)) else {
            continue;
        };
        let added = if path.is_dir() {
            archive.append_dir_all(name, &path)
        } else {
            archive.append_path_with_name(&path, name)
        };
        added.map_err(failed(&path))?;
    }
    let out = archive.into_inner().map_err(failed(file))?;
    out.sync_all().map_err(failed(file))
}

/// What a data folder consists of, without the lock and what belongs to backups.
fn contents(data: &Path) -> Result<Vec<PathBuf>, BackupError> {
    let entries = std::fs::read_dir(data).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = entries.map_err(failed(data))?;
    let is_content =
        |name: &str| name != LOCK && !name.starts_with(SET_ASIDE) && !name.starts_with(UNFINISHED);
    Ok(entries
        .iter()
        .filter(|entry| is_content(&entry.file_name().to_string_lossy()))
        .map(std::fs::DirEntry::path)
        .collect())
}

/// Replaces a data folder's content by that of an archive. The previous content is kept in a folder beside it, whose
/// path is returned. Nothing is changed if the archive cannot be used.
///
/// # Errors
/// See [`BackupError`]; a server that runs on the folder; a database of a newer version.
pub fn restore(file: &Path, data: &Path) -> Result<Option<PathBuf>, BackupError> {
    let _lock = DataFolder::lock(data)?;
    let unfinished = Unfinished::new(data)?;
    unpack(file, &unfinished.0)?;
    Accounts::check_file(&unfinished.0.join(DATABASE))?;
    let owner = std::fs::metadata(data).map_err(failed(data))?;
    let old = contents(data)?;
    let aside = if old.is_empty() { None } else { Some(set_aside(data, &old)?) };
    for path in contents(&unfinished.0)? {
        let target = data.join(path.file_name().unwrap_or_default());
        std::fs::rename(&path, &target).map_err(failed(&target))?;
        // Restored by root, for the service's user.
        hand_over(&target, owner.uid(), owner.gid()).map_err(failed(&target))?;
    }
    Ok(aside)
}

fn set_aside(data: &Path, old: &[PathBuf]) -> Result<PathBuf, BackupError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let aside = data.join(format!("{SET_ASIDE}{now}"));
    DirBuilder::new().mode(0o700).create(&aside).map_err(failed(&aside))?;
    for path in old {
        let target = aside.join(path.file_name().unwrap_or_default());
        std::fs::rename(path, &target).map_err(failed(path))?;
    }
    Ok(aside)
}

/// Unpacks regular files and folders, and nothing that leads out of the folder.
fn unpack(file: &Path, folder: &Path) -> Result<(), BackupError> {
    let wrong = |text: &str| BackupError::NotABackup(file.to_owned(), text.to_owned());
    let mut archive = Archive::new(File::open(file).map_err(failed(file))?);
    let (mut files, mut bytes) = (0, 0);
    for entry in archive.entries().map_err(|error| wrong(&error.to_string()))? {
        let mut entry = entry.map_err(|error| wrong(&error.to_string()))?;
        let path = entry.path().map_err(|error| wrong(&error.to_string()))?.into_owned();
        let kind = entry.header().entry_type();
        (files, bytes) = (files + 1, bytes + entry.size());
        if files > MAX_FILES || bytes > MAX_BYTES {
            return Err(wrong("it is too large"));
        }
        if !path.components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(wrong(&format!("it contains the path {}", path.display())));
        }
        let target = folder.join(&path);
        match kind {
            EntryType::Directory => {
                DirBuilder::new().recursive(true).mode(0o700).create(&target).map_err(failed(&target))?;
            }
            EntryType::Regular => {
                let mut options = OpenOptions::new();
                options.write(true).create_new(true).mode(0o600);
                let mut out = options.open(&target).map_err(failed(&target))?;
                io::copy(&mut entry, &mut out).map_err(|error| wrong(&error.to_string()))?;
                out.sync_all().map_err(failed(&target))?;
            }
            _ => return Err(wrong(&format!("{} is neither a file nor a folder", path.display()))),
        }
    }
    if folder.join(DATABASE).is_file() { Ok(()) } else { Err(wrong("it has no database")) }
}

/// Gives a file or folder with its content to an owner.
fn hand_over(path: &Path, uid: u32, gid: u32) -> io::Result<()> {
    let metadata = std::fs::symlink_metadata(path)?;
    if (metadata.uid(), metadata.gid()) != (uid, gid) {
        std::os::unix::fs::lchown(path, Some(uid), Some(gid))?;
    }
    if metadata.is_dir() {
        for entry in std::fs::read_dir(path)? {
            hand_over(&entry?.path(), uid, gid)?;
        }
    } else {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An archive with one entry.
    fn archive(folder: &Path, name: &str, kind: EntryType) -> PathBuf {
        let file = folder.join("evil.tar");
        let mut builder = Builder::new(File::create(&file).unwrap());
        let mut header = tar::Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_size(0);
        header.set_mode(0o777);
        header.set_cksum();
        builder.append(&header, io::empty()).unwrap();
        builder.finish().unwrap();
        file
    }

    #[test]
    fn an_archive_that_leads_out_of_the_folder_changes_nothing() {
        let table = [
            ("../outside", EntryType::Regular),
            ("/tmp/outside", EntryType::Regular),
            ("a/../../outside", EntryType::Regular),
            ("gatehouse.db", EntryType::Symlink),
            ("gatehouse.db", EntryType::Link),
            ("gatehouse.db", EntryType::Fifo),
            ("other", EntryType::Regular),
        ];
        for (name, kind) in table {
            let folder = tempfile::tempdir().unwrap();
            let data = folder.path().join("data");
            let file = archive(folder.path(), name, kind);
            let error = restore(&file, &data).unwrap_err();
            assert!(matches!(error, BackupError::NotABackup(..)), "{name} {kind:?}: {error}");
            let left: Vec<_> =
                std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(left, [LOCK], "{name} {kind:?}");
            assert!(!folder.path().join("outside").exists());
        }
    }

    #[test]
    fn a_file_that_is_no_archive_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.tar");
        for content in [&b""[..], b"hello", &[7; 2000]] {
            std::fs::write(&file, content).unwrap();
            let error = restore(&file, &folder.path().join("data")).unwrap_err();
            assert!(matches!(error, BackupError::NotABackup(..)), "{error}");
        }
    }
}
