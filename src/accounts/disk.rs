//! A disk that cannot be written, mostly because it is full. Whatever only reads goes on, and so do logins: their table
//! is kept in memory until the disk can be written again. Entries for the audit log wait in a bounded queue. Everything
//! else that has to write is refused with [`AccountError::Disk`]. Start at [`Trouble`] and [`Accounts::recover`].

use std::collections::{HashMap, VecDeque};

use rusqlite::{Connection, ErrorCode};

use super::audit::{self, Event};
use super::{AccountError, Accounts};

/// Entries of the audit log that wait.
const MAX_WAITING: usize = 10_000;

const SHELTER: &str = include_str!("shelter.sql");
const UNSHELTER: &str = include_str!("unshelter.sql");

/// Why the disk cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// There is no space left, or the quota is used up.
    Full,
    /// The file system is read-only, is gone, or fails.
    Failed,
}

impl Trouble {
    /// The stable code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Full => "disk_full",
            Self::Failed => "disk_failed",
        }
    }

    /// Whether an error of the database is the disk's.
    pub(super) fn of(error: &rusqlite::Error) -> Option<Self> {
        match error.sqlite_error_code()? {
            ErrorCode::DiskFull => Some(Self::Full),
            ErrorCode::ReadOnly | ErrorCode::SystemIoFailure | ErrorCode::CannotOpen => Some(Self::Failed),
            _ => None,
        }
    }
}

/// Copies the logins into memory, if they are not there yet.
pub(super) fn shelter(connection: &Connection) -> Result<(), AccountError> {
    if !is_sheltered(connection)? {
        connection.execute_batch(SHELTER)?;
    }
    Ok(())
}

/// Writes the logins that are in memory to the disk.
///
/// # Errors
/// It still cannot be written.
pub(super) fn unshelter(connection: &Connection) -> Result<(), AccountError> {
    if is_sheltered(connection)? {
        connection.execute_batch(UNSHELTER)?;
    }
    Ok(())
}

fn is_sheltered(connection: &Connection) -> Result<bool, AccountError> {
    let sql = "SELECT count(*) FROM temp.sqlite_schema WHERE name = 'sheltered'";
    Ok(connection.query_row(sql, [], |row| row.get::<_, i64>(0))? > 0)
}

/// An entry that waits for the disk.
#[derive(Clone)]
struct Waiting {
    id: i64,
    at: i64,
    until: Option<i64>,
    event: Event,
}

/// Entries of the audit log that wait for the disk, and ends of those that are stored. The numbers of those that wait are
/// negative.
#[derive(Default)]
pub struct AuditQueue {
    waiting: VecDeque<Waiting>,
    /// Numbers of stored entries, and when they ended.
    ends: Vec<(i64, i64)>,
    /// The numbers of entries that have waited and have not ended.
    stored: HashMap<i64, i64>,
    last: i64,
    lost: u64,
}

impl AuditQueue {
    fn push(&mut self, event: Event, at: i64) -> i64 {
        self.last -= 1;
        if self.waiting.len() == MAX_WAITING {
            self.lost += 1;
        } else {
            self.waiting.push_back(Waiting { id: self.last, at, until: None, event });
        }
        self.last
    }

    /// Ends an entry that waits.
    fn end(&mut self, id: i64, at: i64) {
        if let Some(waiting) = self.waiting.iter_mut().find(|waiting| waiting.id == id) {
            waiting.until = Some(at);
        }
    }

    /// Remembers the end of an entry that is stored.
    fn push_end(&mut self, id: i64, at: i64) {
        if self.ends.len() < MAX_WAITING {
            self.ends.push((id, at));
        }
    }
}

impl Accounts {
    /// Queues an entry of the audit log; returns its temporary number.
    pub(super) fn queue_entry(&self, event: Event) -> i64 {
        self.audit_queue().push(event, self.now())
    }

    /// The number of an entry in the file; `None` if it waits, and has ended now.
    pub(super) fn stored_entry(&self, id: i64) -> Option<i64> {
        if id >= 0 {
            return Some(id);
        }
        let mut queue = self.audit_queue();
        let stored = queue.stored.remove(&id);
        if stored.is_none() {
            queue.end(id, self.now());
        }
        stored
    }

    /// Queues the end of an entry that is stored.
    pub(super) fn queue_end(&self, id: i64) {
        self.audit_queue().push_end(id, self.now());
    }

    /// Tries to write what has been waiting for the disk; whether the disk can be written.
    ///
    /// # Errors
    /// Of the database, other than that the disk still cannot be written.
    pub async fn recover(&self) -> Result<bool, AccountError> {
        let (entries, ends, lost) = {
            let mut queue = self.audit_queue();
            let waiting = (std::mem::take(&mut queue.waiting), std::mem::take(&mut queue.ends));
            (waiting.0, waiting.1, std::mem::take(&mut queue.lost))
        };
        let now = self.now();
        let (copies, ended) = (entries.iter().cloned().collect::<Vec<_>>(), ends.clone());
        let written = self.database.recover(move |connection| {
            let mut stored = HashMap::new();
            for Waiting { id, at, until, mut event } in copies {
                event.detail =
                    format!("{} (written late: the disk was full)", event.detail).trim().to_owned();
                let row = audit::insert(connection, &event, at, until)?;
                if event.action == audit::WITH_END && until.is_none() {
                    stored.insert(id, row);
                }
            }
            for (id, at) in ended {
                audit::end(connection, id, at)?;
            }
            if lost > 0 {
                let detail = format!("{lost} entries: the disk was full");
                let event = Event { action: "log.lost", detail, ..Event::default() };
                audit::insert(connection, &event, now, None)?;
            }
            Ok(stored)
        });
        let result = written.await;
        let mut queue = self.audit_queue();
        match result {
            Ok(stored) => {
                queue.stored.extend(stored);
                Ok(true)
            }
            Err(error) => {
                // Those that have come meanwhile are younger.
                let younger = std::mem::replace(&mut queue.waiting, entries);
                queue.waiting.extend(younger);
                let younger = std::mem::replace(&mut queue.ends, ends);
                queue.ends.extend(younger);
                queue.lost += lost;
                if matches!(error, AccountError::Disk(_)) { Ok(false) } else { Err(error) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::database::Database;

    /// A database that has no space left from now on.
    async fn fill(database: &Database) {
        let sql = "PRAGMA max_page_count = 1";
        database.call(move |connection| Ok(connection.query_row(sql, [], |_| Ok(()))?)).await.unwrap();
        let write = |connection: &Connection| {
            connection.execute("CREATE TABLE filler (x)", [])?;
            connection.execute("INSERT INTO filler VALUES (zeroblob(1000000))", [])?;
            Ok(())
        };
        let error = database.call(write).await.unwrap_err();
        assert!(matches!(error, AccountError::Disk(Trouble::Full)), "{error}");
    }

    async fn empty(database: &Database) {
        let sql = "PRAGMA max_page_count = 1000000";
        database.call(move |connection| Ok(connection.query_row(sql, [], |_| Ok(()))?)).await.unwrap();
    }

    #[tokio::test]
    async fn the_copy_has_the_same_columns_and_its_changes_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&folder.path().join("g.db")).unwrap();
        let run = |sql: &'static str| database.call(move |connection| Ok(connection.execute_batch(sql)?));
        run("INSERT INTO users (name, display, role, password, created_at) VALUES ('anna', '', 'member', '', 0)")
            .await
            .unwrap();
        run("INSERT INTO logins VALUES (1, 1, x'01', 0, 0, 9, '', ''), (2, 1, x'02', 0, 0, 9, '', ''),
             (7, 1, x'07', 0, 0, 9, '', '')")
        .await
        .unwrap();
        run("DELETE FROM logins WHERE id = 7").await.unwrap();
        fill(&database).await;
        // With the file's table: `main.logins`.
        run("UPDATE logins SET seen_at = 5 WHERE id = 1").await.unwrap();
        run("DELETE FROM logins WHERE id = 2").await.unwrap();
        run("INSERT INTO logins (user_id, hash, created_at, seen_at, expires_at, address, agent)
             VALUES (1, x'08', 0, 0, 9, '', ''), (99, x'09', 0, 0, 9, '', '')")
        .await
        .unwrap();
        let list = |table: &'static str| {
            database.call(move |connection| {
                let sql = format!("SELECT json_group_array(json_array(id, seen_at)) FROM {table}");
                Ok(connection.query_row(&sql, [], |row| row.get::<_, String>(0))?)
            })
        };
        assert_eq!(list("main.logins").await.unwrap(), "[[1,0],[2,0]]");
        assert_eq!(list("logins").await.unwrap(), "[[1,5],[8,0],[9,0]]");
        empty(&database).await;
        database.recover(|_| Ok(())).await.unwrap();
        assert_eq!(list("logins").await.unwrap(), "[[1,5],[8,0]]");
        assert_eq!(list("main.logins").await.unwrap(), "[[1,5],[8,0]]");
        assert_eq!(*database.trouble().borrow(), None);
    }

    #[tokio::test]
    async fn what_is_watched_ends_whenever_the_disk_is_full() {
        let folder = tempfile::tempdir().unwrap();
        let (accounts, _) = Accounts::open(folder.path(), None).await.unwrap();
        let watch = || Event { action: "watch", ..Event::default() };
        // Begun before and ended during it; begun during it and ended after.
        let before = accounts.note(watch()).await.unwrap();
        fill(&accounts.database).await;
        accounts.note_end(before).await.unwrap();
        let during = accounts.note(watch()).await.unwrap();
        empty(&accounts.database).await;
        assert!(accounts.recover().await.unwrap());
        accounts.note_end(during).await.unwrap();
        let log = accounts.log(audit::Filter::default(), 10).await.unwrap();
        assert_eq!(log.iter().filter(|entry| entry.until.is_some()).count(), 2, "{log:?}");
        assert!(accounts.audit_queue().stored.is_empty());
    }

    #[tokio::test]
    async fn entries_wait_for_the_disk_within_a_bound() {
        let folder = tempfile::tempdir().unwrap();
        let (accounts, _) = Accounts::open(folder.path(), None).await.unwrap();
        fill(&accounts.database).await;
        let watch = || Event { action: "watch", actor: "anna".into(), ..Event::default() };
        let entry = accounts.note(watch()).await.unwrap();
        assert!(entry < 0);
        accounts.note_end(entry).await.unwrap();
        for _ in 0..MAX_WAITING + 1 {
            accounts.note(Event { action: "login", ..Event::default() }).await.unwrap();
        }
        empty(&accounts.database).await;
        assert!(accounts.recover().await.unwrap());
        let log = accounts.log(audit::Filter::default(), u32::MAX).await.unwrap();
        assert_eq!(log.len(), MAX_WAITING + 1);
        assert_eq!(
            (log[0].action.as_str(), log[0].detail.as_str()),
            ("log.lost", "2 entries: the disk was full")
        );
        let first = log.last().unwrap();
        assert!(
            first.action == "watch" && first.until.is_some() && first.detail.contains("late"),
            "{first:?}"
        );
    }
}
