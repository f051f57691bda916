//! The database file and the one thread that owns the connection. It runs jobs in order; the queries themselves are
//! in `users`, `credentials`, `cameras`, `audit` and so on. Start at [`Database::call`].

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rusqlite::Connection;
use rusqlite_migration::{M, Migrations};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::error;

use super::AccountError;
use super::disk::{self, Trouble};
use crate::compartment;

/// Jobs that may be queued for the thread.
const QUEUE: usize = 256;
/// How long to wait for SQLite's lock: the command line and the server may write at the same time.
const BUSY: Duration = Duration::from_secs(5);

/// Append-only: existing databases have already run the earlier steps.
const STEPS: &[M<'static>] = &[
    M::up(include_str!("schema_1.sql")),
    M::up(include_str!("schema_2.sql")),
    M::up(include_str!("schema_3.sql")),
    M::up(include_str!("schema_4.sql")),
    M::up(include_str!("schema_5.sql")),
    M::up(include_str!("schema_6.sql")),
];
const MIGRATIONS: Migrations<'static> = Migrations::from_slice(STEPS);

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// A handle to the thread. Cheap to clone.
#[derive(Clone)]
pub struct Database {
    jobs: mpsc::Sender<Job>,
    trouble: watch::Sender<Option<Trouble>>,
    log: Arc<Path>,
}

impl Database {
    /// Opens a file, creating or migrating it if necessary.
    ///
    /// # Errors
    /// It cannot be opened, is not a Gatehouse database, or was written by a newer version.
    pub fn open(path: &Path) -> Result<Self, AccountError> {
        let connection = connect(path).map_err(|error| {
            AccountError::Internal(format!("the database {} cannot be used: {error}", path.display()))
        })?;
        let (jobs, queue) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new().name("database".into());
        thread
            .spawn(move || run(connection, queue))
            .map_err(|error| AccountError::Internal(error.to_string()))?;
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        Ok(Self { jobs, trouble: watch::Sender::new(None), log: PathBuf::from(log).into() })
    }

    /// Runs a job on the connection, in a transaction that is rolled back on error.
    ///
    /// # Errors
    /// The job's, or the database's.
    pub async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, AccountError> + Send + 'static,
    ) -> Result<T, AccountError> {
        let result = self.run(|connection| in_transaction(connection, work)).await;
        if let Err(AccountError::Disk(trouble)) = &result {
            self.run(|connection| in_transaction(connection, disk::shelter)).await?;
            self.trouble.send_if_modified(|known| known.replace(*trouble) != Some(*trouble));
        }
        result
    }

    /// Why the disk cannot be written, if so: see [`super::disk`].
    pub fn trouble(&self) -> watch::Receiver<Option<Trouble>> {
        self.trouble.subscribe()
    }

    /// Tries whether the disk can be written again, together with a job. If so the trouble is over.
    ///
    /// # Errors
    /// The disk still cannot be written, or the job's.
    pub async fn recover<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, AccountError> + Send + 'static,
    ) -> Result<T, AccountError> {
        let value = self
            .run(|connection| {
                in_transaction(connection, |connection| {
                    disk::unshelter(connection)?;
                    work(connection)
                })
            })
            .await?;
        self.trouble.send_if_modified(|known| known.take().is_some());
        Ok(value)
    }

    /// Moves the write-ahead log into the file and empties it, unless another process is reading.
    ///
    /// # Errors
    /// The database's.
    pub async fn checkpoint(&self) -> Result<(), AccountError> {
        let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
        self.run(move |connection| Ok(connection.query_row(sql, [], |_| Ok(()))?)).await
    }

    /// Writes a consistent copy to a new file.
    ///
    /// # Errors
    /// The database's.
    pub async fn snapshot(&self, file: &Path) -> Result<(), AccountError> {
        let file = file.to_owned();
        self.run(move |connection| {
            connection.execute("VACUUM INTO ?", [file.display().to_string()])?;
            // Another file is another database: the write-ahead log of this one is not its own.
            Connection::open(&file)?.execute("DELETE FROM settings WHERE key = 'mark'", [])?;
            Ok(())
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, AccountError> + Send + 'static,
    ) -> Result<T, AccountError> {
        let gone = || AccountError::Internal("the database thread has ended".into());
        let (reply, result) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            let _ = reply.send(work(connection));
        });
        self.jobs.send(job).await.map_err(|_| gone())?;
        result.await.map_err(|_| gone())?
    }

    /// Time and size of the write-ahead log, as they are now.
    pub fn log_stamp(&self) -> Option<(SystemTime, u64)> {
        let metadata = std::fs::metadata(&self.log).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    }

    /// A number that changes whenever another process has written.
    ///
    /// # Errors
    /// Database errors.
    pub async fn foreign_version(&self) -> Result<i64, AccountError> {
        self.call(|connection| Ok(connection.pragma_query_value(None, "data_version", |row| row.get(0))?))
            .await
    }
}

/// The mark of a database file, see [`crate::data`]. Its write-ahead log is not looked at. `None` if there is none.
pub fn stored_mark(file: &Path) -> Option<String> {
    let mut url = url::Url::from_file_path(std::path::absolute(file).ok()?).ok()?;
    url.set_query(Some("immutable=1"));
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY | rusqlite::OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(url.as_str(), flags).ok()?;
    let sql = "SELECT value FROM settings WHERE key = 'mark'";
    connection.query_row(sql, [], |row| row.get(0)).ok()
}

/// Whether a file is a whole database of this version or an older one. It is not changed.
///
/// # Errors
/// What is wrong with it.
pub fn check_file(file: &Path) -> Result<(), AccountError> {
    let wrong = |text: String| {
        AccountError::Internal(format!("the database {} cannot be used: {text}", file.display()))
    };
    let look = || {
        let connection = Connection::open_with_flags(file, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let check: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        Ok::<_, rusqlite::Error>((check, version))
    };
    let (check, version) = look().map_err(|error| wrong(error.to_string()))?;
    match usize::try_from(version) {
        _ if check != "ok" => Err(wrong(check)),
        Ok(1..) if version as usize <= STEPS.len() => Ok(()),
        Ok(1..) => {
            Err(wrong("it was written by a newer version of Gatehouse: update the program first".into()))
        }
        _ => Err(wrong("it is not a database of Gatehouse".into())),
    }
}

fn connect(path: &Path) -> Result<Connection, Box<dyn std::error::Error>> {
    // Create it first, so that it is never readable by others; SQLite gives its side files the same mode.
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "normal")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "secure_delete", true)?;
    // What is kept while the disk is full must not need the disk.
    connection.pragma_update(None, "temp_store", "memory")?;
    MIGRATIONS.to_latest(&mut connection)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

fn run(mut connection: Connection, mut queue: mpsc::Receiver<Job>) {
    while let Some(job) = queue.blocking_recv() {
        // Whoever waits for it is answered with an error; the transaction is rolled back when it is dropped.
        if let Err(panicked) = compartment::run(|| job(&mut connection)) {
            error!(code = "internal", "a job of the database: {panicked}");
        }
    }
}

fn in_transaction<T>(
    connection: &mut Connection,
    work: impl FnOnce(&Connection) -> Result<T, AccountError>,
) -> Result<T, AccountError> {
    let transaction = connection.transaction()?;
    let value = work(&transaction)?;
    transaction.commit()?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn migrations_are_sound() {
        MIGRATIONS.validate().unwrap();
    }

    #[tokio::test]
    async fn an_error_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("g.db");
        let database = Database::open(&file).unwrap();
        let failed: Result<(), _> = database
            .call(|connection| {
                connection.execute("INSERT INTO settings VALUES ('a', 'b')", [])?;
                Err(AccountError::NotFound("x"))
            })
            .await;
        assert!(failed.is_err());
        let count = |connection: &Connection| {
            Ok(connection.query_row("SELECT count(*) FROM settings", [], |row| row.get::<_, i64>(0))?)
        };
        assert_eq!(database.call(count).await.unwrap(), 0);
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let mode = entry.unwrap().metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "only its owner may read it");
        }
    }

    #[test]
    fn a_file_that_is_no_database_is_refused_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("g.db");
        std::fs::write(
            &file,
            "something else that is long enough to be looked at, and not a database at all",
        )
        .unwrap();
        assert!(Database::open(&file).is_err());
        assert!(std::fs::read_to_string(&file).unwrap().starts_with("something"));
    }
}
