//! The call history: written when a call ends, read by its participants. Live calls are in `signaling`.

use std::time::{Duration, SystemTime};

use rusqlite::{Connection, params};
use serde::Serialize;

use super::{AccountError, Accounts, millis};

/// Entries per page.
pub const PAGE: u32 = 100;

/// A finished call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CallRecord {
    /// Its number.
    pub call: u64,
    /// A login name.
    pub caller: String,
    /// A login name.
    pub callee: String,
    /// Whether it had video.
    pub video: bool,
    /// From acceptance to the end; `None` if it was not accepted.
    pub talked: Option<Duration>,
    /// Why it ended: a stable code.
    pub reason: &'static str,
    /// A short message from whoever rejected it.
    pub message: String,
}

/// Which calls to return.
#[derive(Clone, Debug, Default)]
pub struct CallFilter {
    /// With this user.
    pub peer: Option<String>,
    /// With somebody whose login or display name contains this.
    pub search: Option<String>,
    /// Only missed calls that have not been seen yet.
    pub missed: bool,
    /// Older than this one.
    pub before: Option<i64>,
}

/// A call from the point of view of one participant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CallView {
    /// Its number, increasing.
    pub id: i64,
    /// Its end, in milliseconds since 1970.
    pub at: i64,
    /// Whether this user made it.
    pub outgoing: bool,
    /// The other participant's login name.
    pub peer: String,
    /// The other participant's display name.
    pub display: String,
    /// Whether it had video.
    pub video: bool,
    /// Duration in milliseconds; null if it was not accepted.
    pub talked: Option<i64>,
    /// Why it ended.
    pub reason: String,
    /// A short message from whoever rejected it.
    pub message: String,
    /// It was not answered, and this user has not seen that yet.
    pub missed: bool,
}

impl Accounts {
    /// The number after which the calls of this start of the server are numbered. Up to it, numbers may belong to calls
    /// of an earlier start, at most `running` of which are in no history because they had not ended.
    ///
    /// # Errors
    /// Database errors.
    pub async fn reserve_calls(&self, running: u64) -> Result<u64, AccountError> {
        self.database
            .call(move |connection| {
                let sql = "SELECT max((SELECT coalesce(max(id), 0) FROM calls), \
                           (SELECT coalesce(max(CAST(value AS INTEGER)), 0) FROM settings WHERE key = 'last_call'))";
                let last = connection.query_row(sql, [], |row| row.get::<_, i64>(0))? + running as i64;
                let sql = "INSERT OR REPLACE INTO settings VALUES ('last_call', ?)";
                connection.execute(sql, [last.to_string()])?;
                Ok(last as u64)
            })
            .await
    }

    /// Stores a finished call.
    ///
    /// # Errors
    /// Database errors.
    pub async fn note_call(&self, call: CallRecord, at: SystemTime) -> Result<(), AccountError> {
        self.database
            .call(move |connection| {
                let sql =
                    "INSERT OR IGNORE INTO calls (id, at, caller, callee, video, talked, reason, message)
                           VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
                let talked = call.talked.map(|talked| talked.as_millis() as i64);
                let (id, reason) = (call.call as i64, call.reason);
                connection.execute(
                    sql,
                    params![
                        id,
                        millis(at),
                        call.caller,
                        call.callee,
                        call.video,
                        talked,
                        reason,
                        call.message
                    ],
                )?;
                Ok(())
            })
            .await
    }

    /// A user's calls, newest first, and the total number of missed ones.
    ///
    /// # Errors
    /// Database errors.
    pub async fn calls(&self, user: &str, filter: CallFilter) -> Result<(Vec<CallView>, i64), AccountError> {
        let user = user.to_owned();
        self.database
            .call(move |connection| {
                let sql = format!("SELECT count(*) FROM calls WHERE {MISSED}");
                let missed = connection.query_row(&sql, [&user], |row| row.get(0))?;
                Ok((list(connection, &user, &filter)?, missed))
            })
            .await
    }

    /// Marks a user's missed calls as seen.
    ///
    /// # Errors
    /// Database errors.
    pub async fn calls_seen(&self, user: &str) -> Result<(), AccountError> {
        let user = user.to_owned();
        self.database
            .call(move |connection| {
                connection.execute("UPDATE calls SET seen = 1 WHERE callee = ? AND seen = 0", [user])?;
                Ok(())
            })
            .await
    }

    /// Deletes older calls.
    ///
    /// # Errors
    /// Database errors.
    pub async fn forget_calls(&self, now: SystemTime, older_than: Duration) -> Result<(), AccountError> {
        let limit = millis(now) - older_than.as_millis() as i64;
        self.database
            .call(move |connection| {
                // Keep the last one: its number must not be reused.
                let sql = "DELETE FROM calls WHERE id IN (SELECT id FROM calls
                    WHERE at < ? AND id < (SELECT max(id) FROM calls) ORDER BY id
                    LIMIT 1 + (SELECT count(*) FROM calls) / 240)";
                connection.execute(sql, [limit])?;
                Ok(())
            })
            .await
    }
}

/// For a removed user: their calls stay in the others' history, under a name that no account can have.
pub(super) fn forget_name(connection: &Connection, name: &str) -> Result<(), AccountError> {
    let former = format!("{name} †");
    connection.execute("UPDATE calls SET caller = ?1 WHERE caller = ?2", [former.as_str(), name])?;
    connection.execute("UPDATE calls SET callee = ?1 WHERE callee = ?2", [former.as_str(), name])?;
    Ok(())
}

/// Calls that `?1` has missed and not seen yet.
const MISSED: &str = "callee = ?1 AND seen = 0 AND reason IN ('no_answer', 'cancelled')";

fn list(connection: &Connection, user: &str, filter: &CallFilter) -> Result<Vec<CallView>, AccountError> {
    let sql = format!(
        "SELECT calls.id, at, caller = ?1, iif(caller = ?1, callee, caller) AS peer, video, talked, reason, message,
                {MISSED}, coalesce(users.display, iif(caller = ?1, callee, caller)) AS shown
         FROM calls LEFT JOIN users ON users.name = iif(caller = ?1, callee, caller)
         WHERE (caller = ?1 OR callee = ?1) AND (?2 IS NULL OR peer = ?2 COLLATE NOCASE)
           AND (?3 IS NULL OR calls.id < ?3) AND (?4 IS NULL OR instr(lower(peer || ' ' || shown), lower(?4)))
           AND (NOT ?5 OR ({MISSED}))
         ORDER BY calls.id DESC LIMIT {PAGE}"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let CallFilter { peer, search, missed, before } = filter;
    let rows = statement.query_map(params![user, peer, before, search, missed], |row| {
        Ok(CallView {
            id: row.get(0)?,
            at: row.get(1)?,
            outgoing: row.get(2)?,
            peer: row.get(3)?,
            video: row.get(4)?,
            talked: row.get(5)?,
            reason: row.get(6)?,
            message: row.get(7)?,
            missed: row.get(8)?,
            display: row.get(9)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
