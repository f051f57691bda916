//! The audit log: who did what, and who watched what from when to when. Written here, read by admins, kept for a
//! limited time. Start at [`Accounts::note`].

use std::time::{Duration, SystemTime};

use rusqlite::{Connection, params, params_from_iter};
use serde::Serialize;

use super::{AccountError, Accounts, millis};

/// The action whose entries have an end.
pub(super) const WITH_END: &str = "watch";
/// Entries per page of the log.
pub const PAGE: u32 = 100;
/// Upper limit on stored entries, whatever their age.
const MOST_ENTRIES: i64 = 2_000_000;
/// Most entries in one CSV file.
pub const MOST: u32 = 100_000;

/// Something that happened.
#[derive(Clone, Debug, Default)]
pub struct Event {
    /// Who did it: a login name; empty for anonymous callers.
    pub actor: String,
    /// From which address; empty for the console.
    pub address: String,
    /// What was done: a stable code such as `login` or `watch`.
    pub action: &'static str,
    /// What it was done to: a user, camera or group.
    pub target: String,
    /// Further details; never a secret.
    pub detail: String,
}

/// An entry of the log.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// Its number, increasing.
    pub id: i64,
    /// Milliseconds since 1970.
    pub at: i64,
    /// When it ended, for entries with a duration; `None` while it lasts.
    pub until: Option<i64>,
    /// See [`Event`].
    pub actor: String,
    /// See [`Event`].
    pub address: String,
    /// See [`Event`].
    pub action: String,
    /// See [`Event`].
    pub target: String,
    /// See [`Event`].
    pub detail: String,
}

/// Which entries to return.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// By this person.
    pub actor: Option<String>,
    /// With this action, or any action that starts with it and a dot.
    pub action: Option<String>,
    /// With this target.
    pub target: Option<String>,
    /// Not before.
    pub from: Option<i64>,
    /// Not after.
    pub to: Option<i64>,
    /// Older than this entry.
    pub before: Option<i64>,
}

impl Accounts {
    /// Writes an entry; returns its number.
    ///
    /// # Errors
    /// Database errors.
    pub async fn note(&self, event: Event) -> Result<i64, AccountError> {
        if self.disk_trouble().borrow().is_some() {
            return Ok(self.queue_entry(event));
        }
        let (copy, now) = (event.clone(), self.now());
        match self.database.call(move |connection| insert(connection, &copy, now, None)).await {
            Err(AccountError::Disk(_)) => Ok(self.queue_entry(event)),
            result => result,
        }
    }

    /// Records that what an entry describes has ended now.
    ///
    /// # Errors
    /// Database errors.
    pub async fn note_end(&self, entry: i64) -> Result<(), AccountError> {
        let Some(entry) = self.stored_entry(entry) else { return Ok(()) };
        let now = self.now();
        match self.database.call(move |connection| end(connection, entry, now)).await {
            Err(AccountError::Disk(_)) => {
                self.queue_end(entry);
                Ok(())
            }
            result => result,
        }
    }

    /// Entries, newest first.
    ///
    /// # Errors
    /// Database errors.
    pub async fn log(&self, filter: Filter, most: u32) -> Result<Vec<Entry>, AccountError> {
        self.database.call(move |connection| query(connection, &filter, most.min(MOST))).await
    }

    /// Deletes entries that are older, and those beyond the upper limit. Called each hour: at most a tenth a day goes by
    /// age, so that a wrong clock is noticed before much is lost.
    ///
    /// # Errors
    /// Database errors.
    pub async fn forget_log(&self, now: SystemTime, older_than: Duration) -> Result<(), AccountError> {
        let limit = millis(now) - older_than.as_millis() as i64;
        self.database
            .call(move |connection| {
                let sql = "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at < ? ORDER BY id
                    LIMIT 1 + (SELECT count(*) FROM audit) / 240)";
                connection.execute(sql, [limit])?;
                let sql = "DELETE FROM audit WHERE id <= (SELECT max(id) FROM audit) - ?";
                connection.execute(sql, [MOST_ENTRIES])?;
                Ok(())
            })
            .await
    }

    /// At the end: ends the entries of sessions that are running.
    ///
    /// # Errors
    /// Database errors.
    pub async fn end_open_entries(&self) -> Result<(), AccountError> {
        let now = self.now();
        self.database
            .call(move |connection| {
                let sql =
                    "UPDATE audit SET until = ? WHERE action = 'watch' AND until IS NULL AND detail = ''";
                connection.execute(sql, [now])?;
                Ok(())
            })
            .await
    }

    /// At start-up: closes entries that the previous run left open. When they ended is unknown.
    ///
    /// # Errors
    /// Database errors.
    pub async fn close_open_entries(&self) -> Result<(), AccountError> {
        self.database
            .call(|connection| {
                let sql = "UPDATE audit SET detail = 'interrupted' WHERE action = 'watch' AND until IS NULL AND detail = ''";
                connection.execute(sql, [])?;
                Ok(())
            })
            .await
    }
}

/// Ends an entry, unless it has ended.
pub(super) fn end(connection: &Connection, entry: i64, at: i64) -> Result<(), AccountError> {
    let sql = "UPDATE audit SET until = ? WHERE id = ? AND until IS NULL";
    Ok(connection.execute(sql, [at, entry]).map(drop)?)
}

pub(super) fn insert(
    connection: &Connection,
    event: &Event,
    at: i64,
    until: Option<i64>,
) -> Result<i64, AccountError> {
    let sql =
        "INSERT INTO audit (at, until, actor, address, action, target, detail) VALUES (?, ?, ?, ?, ?, ?, ?)";
    let short = |text: &str| text.chars().take(200).collect::<String>();
    let mut statement = connection.prepare_cached(sql)?;
    statement.execute(params![
        at,
        until,
        short(&event.actor),
        event.address,
        event.action,
        short(&event.target),
        short(&event.detail)
    ])?;
    Ok(connection.last_insert_rowid())
}

fn query(connection: &Connection, filter: &Filter, most: u32) -> Result<Vec<Entry>, AccountError> {
    let mut conditions = vec!["1"];
    let mut values: Vec<rusqlite::types::Value> = Vec::new();
    let mut add = |condition, value: rusqlite::types::Value| {
        conditions.push(condition);
        values.push(value);
    };
    if let Some(actor) = &filter.actor {
        add("actor = ? COLLATE NOCASE", actor.clone().into());
    }
    if let Some(action) = &filter.action {
        // `login` and `login.failed`, but not `loginx`.
        add("action || '.' LIKE ? || '.%'", action.clone().into());
    }
    if let Some(target) = &filter.target {
        add("target = ? COLLATE NOCASE", target.clone().into());
    }
    for (condition, value) in [("at >= ?", filter.from), ("at <= ?", filter.to), ("id < ?", filter.before)] {
        if let Some(value) = value {
            add(condition, value.into());
        }
    }
    let sql = format!(
        "SELECT id, at, until, actor, address, action, target, detail FROM audit WHERE {} ORDER BY id DESC LIMIT {most}",
        conditions.join(" AND ")
    );
    let mut statement = connection.prepare(&sql)?;
    let rows = statement.query_map(params_from_iter(values), |row| {
        Ok(Entry {
            id: row.get(0)?,
            at: row.get(1)?,
            until: row.get(2)?,
            actor: row.get(3)?,
            address: row.get(4)?,
            action: row.get(5)?,
            target: row.get(6)?,
            detail: row.get(7)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Entries as a CSV file, with times in ISO 8601 and cells that no spreadsheet interprets as a formula.
///
/// # Errors
/// Never in practice: it writes to memory.
pub fn to_csv(entries: &[Entry]) -> Result<Vec<u8>, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(["at", "until", "actor", "address", "action", "target", "detail"])?;
    for entry in entries {
        let until = entry.until.map(iso).unwrap_or_default();
        let cells = [&entry.actor, &entry.address, &entry.action, &entry.target, &entry.detail]
            .map(|text| harmless(text));
        let [actor, address, action, target, detail] = cells;
        writer.write_record([iso(entry.at), until, actor, address, action, target, detail])?;
    }
    writer.into_inner().map_err(|error| csv::Error::from(std::io::Error::other(error.to_string())))
}

fn iso(at: i64) -> String {
    let at = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(at) * 1_000_000);
    at.ok().and_then(|at| at.format(&time::format_description::well_known::Rfc3339).ok()).unwrap_or_default()
}

fn harmless(text: &str) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_is_harmless_and_complete() {
        let entry = Entry {
            id: 1,
            at: 1_700_000_000_123,
            until: None,
            actor: "=cmd()".into(),
            address: "192.0.2.1".into(),
            action: "watch".into(),
            target: "a \"quoted\", name".into(),
            detail: String::new(),
        };
        let text = String::from_utf8(to_csv(&[entry]).unwrap()).unwrap();
        let line = text.lines().nth(1).unwrap();
        assert_eq!(line, r#"2023-11-14T22:13:20.123Z,,'=cmd(),192.0.2.1,watch,"a ""quoted"", name","#);
    }

    #[tokio::test]
    async fn a_wrong_year_costs_a_tenth_a_day() {
        let folder = tempfile::tempdir().unwrap();
        let (accounts, _) = Accounts::open(folder.path(), None).await.unwrap();
        for _ in 0..1000 {
            accounts.note(Event { action: "login", ..Event::default() }).await.unwrap();
        }
        let later = SystemTime::now() + Duration::from_secs(10 * 365 * 86_400);
        for _ in 0..24 {
            accounts.forget_log(later, Duration::from_secs(90 * 86_400)).await.unwrap();
        }
        let left = accounts.log(Filter::default(), 2000).await.unwrap().len();
        assert!((880..1000).contains(&left), "{left}");
    }
}
