//! Settings that admins edit on the page: the rules between people, and who may watch a camera, unless the
//! configuration file says so. They are stored here and evaluated in `permissions`.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};

use super::permissions::{Rules, Subject};
use super::{AccountError, Accounts};
use crate::tls::Known;

/// Removes a deleted user or group from all lists.
pub(super) fn forget_subject(connection: &Connection, gone: &Subject) -> Result<(), AccountError> {
    let gone = gone.to_string().to_lowercase();
    let mut statement = connection.prepare("SELECT camera, allow FROM camera_allow")?;
    let rows: Vec<(String, String)> =
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    for (camera, text) in rows {
        let list: Vec<Subject> = serde_json::from_str(&text).unwrap_or_default();
        let left: Vec<&Subject> =
            list.iter().filter(|subject| subject.to_string().to_lowercase() != gone).collect();
        if left.len() < list.len() {
            let text = serde_json::to_string(&left).unwrap_or_default();
            connection
                .execute("UPDATE camera_allow SET allow = ? WHERE camera = ?", params![text, camera])?;
        }
    }
    Ok(())
}

/// Most entries in one list.
const MAX_SUBJECTS: usize = 200;

impl Accounts {
    /// The rules in force.
    pub fn rules(&self) -> Arc<Rules> {
        self.rules.load_full()
    }

    /// Sets the rules.
    ///
    /// # Errors
    /// Database errors.
    pub async fn set_rules(&self, rules: Rules) -> Result<(), AccountError> {
        let text =
            serde_json::to_string(&rules).map_err(|error| AccountError::Internal(error.to_string()))?;
        self.database
            .call(move |connection| {
                connection.execute("INSERT OR REPLACE INTO settings VALUES ('rules', ?)", [text])?;
                Ok(())
            })
            .await?;
        self.rules.store(Arc::new(rules));
        self.change();
        Ok(())
    }

    /// What is remembered of the local certificate authority, see [`crate::tls`].
    ///
    /// # Errors
    /// Database errors.
    pub async fn known_authority(&self) -> Result<Option<Known>, AccountError> {
        let sql = "SELECT value FROM settings WHERE key = 'authority'";
        let read = move |connection: &Connection| {
            Ok(connection.query_row(sql, [], |row| row.get::<_, String>(0)).optional()?)
        };
        Ok(self.database.call(read).await?.and_then(|text| serde_json::from_str(&text).ok()))
    }

    /// Remembers it.
    ///
    /// # Errors
    /// Database errors.
    pub async fn remember_authority(&self, known: Option<Known>) -> Result<(), AccountError> {
        let Some(text) = known.and_then(|known| serde_json::to_string(&known).ok()) else { return Ok(()) };
        let sql = "INSERT INTO settings VALUES ('authority', ?1)
                   ON CONFLICT (key) DO UPDATE SET value = ?1 WHERE value != ?1";
        self.database.call(move |connection| Ok(connection.execute(sql, [text]).map(drop)?)).await
    }

    pub(super) async fn load_rules(&self) -> Result<(), AccountError> {
        let text: Option<String> = self
            .database
            .call(|connection| {
                let sql = "SELECT value FROM settings WHERE key = 'rules'";
                Ok(connection.query_row(sql, [], |row| row.get(0)).optional()?)
            })
            .await?;
        let rules = text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        self.rules.store(Arc::new(rules));
        Ok(())
    }

    /// The allow lists that were set on the page, by camera.
    ///
    /// # Errors
    /// Database errors.
    pub async fn camera_lists(&self) -> Result<HashMap<String, Vec<Subject>>, AccountError> {
        self.database
            .call(|connection| {
                let mut statement = connection.prepare_cached("SELECT camera, allow FROM camera_allow")?;
                let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?;
                let read =
                    |(camera, text): (String, String)| Some((camera, serde_json::from_str(&text).ok()?));
                Ok(rows.filter_map(|row| row.map(read).transpose()).collect::<Result<_, _>>()?)
            })
            .await
    }

    /// Sets who may watch a camera; `None` for the default.
    ///
    /// # Errors
    /// A list that is too long.
    pub async fn set_camera_list(
        &self,
        camera: &str,
        allow: Option<Vec<Subject>>,
    ) -> Result<(), AccountError> {
        if allow.as_ref().is_some_and(|list| list.len() > MAX_SUBJECTS) {
            return Err(AccountError::TooMany("entries"));
        }
        let camera = camera.to_owned();
        self.database
            .call(move |connection| {
                match allow {
                    None => connection.execute("DELETE FROM camera_allow WHERE camera = ?", [camera])?,
                    Some(list) => {
                        let text = serde_json::to_string(&list).unwrap_or_default();
                        let sql = "INSERT OR REPLACE INTO camera_allow VALUES (?, ?)";
                        connection.execute(sql, params![camera, text])?
                    }
                };
                Ok(())
            })
            .await?;
        self.change();
        Ok(())
    }
}
