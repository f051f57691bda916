//! What users decide for themselves: who may watch their camera, and whose calls their devices accept automatically.
//! The admins' rules between people take precedence; see `permissions`. Start at [`Preferences`].

use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

use super::permissions::{Person, Subject};
use super::rows::id_of;
use super::{AccountError, Accounts};

/// Most entries in one list.
const MAX_SUBJECTS: usize = 200;

/// What happens when somebody who is not listed asks to watch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Consent {
    /// The person is asked.
    #[default]
    Ask,
    /// The request is refused.
    Never,
}

/// Who may watch somebody's camera.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Watched {
    /// Those who need no consent.
    pub allow: Vec<Subject>,
    /// What applies to all others.
    pub others: Consent,
    /// Whether audio is included.
    pub sound: bool,
}

impl Default for Watched {
    fn default() -> Self {
        Self { allow: Vec::new(), others: Consent::Ask, sound: true }
    }
}

/// A user's own settings.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Preferences {
    /// Who may watch.
    pub watched: Watched,
    /// Whose calls are accepted automatically.
    pub auto_accept: Vec<Subject>,
}

impl Preferences {
    /// Whether somebody's call is accepted automatically.
    pub fn accepts(&self, caller: &Person) -> bool {
        names(&self.auto_accept, caller)
    }

    /// Whether somebody may watch without asking.
    pub fn lets_watch(&self, watcher: &Person) -> bool {
        names(&self.watched.allow, watcher)
    }

    fn without(&mut self, gone: &str) -> bool {
        let before = self.watched.allow.len() + self.auto_accept.len();
        for list in [&mut self.watched.allow, &mut self.auto_accept] {
            list.retain(|subject| subject.to_string().to_lowercase() != gone);
        }
        self.watched.allow.len() + self.auto_accept.len() < before
    }
}

fn names(list: &[Subject], person: &Person) -> bool {
    list.iter().any(|subject| subject.names(person))
}

/// Parses the stored form; falls back to the defaults for what a later version wrote and this one cannot read.
pub(super) fn read(text: &str) -> Preferences {
    serde_json::from_str(text).unwrap_or_default()
}

/// Removes a deleted user or group from everybody's lists.
pub(super) fn forget_subject(connection: &Connection, gone: &Subject) -> Result<(), AccountError> {
    let gone = gone.to_string().to_lowercase();
    let mut statement = connection.prepare("SELECT id, preferences FROM users WHERE preferences != '{}'")?;
    let rows: Vec<(i64, String)> =
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    for (user, text) in rows {
        let mut preferences = read(&text);
        if preferences.without(&gone) {
            write(connection, user, &preferences)?;
        }
    }
    Ok(())
}

fn write(connection: &Connection, user: i64, preferences: &Preferences) -> Result<(), AccountError> {
    let text =
        serde_json::to_string(preferences).map_err(|error| AccountError::Internal(error.to_string()))?;
    connection.execute("UPDATE users SET preferences = ? WHERE id = ?", params![text, user])?;
    Ok(())
}

impl Accounts {
    /// A user's preferences.
    ///
    /// # Errors
    /// No such user.
    pub async fn preferences(&self, name: &str) -> Result<Preferences, AccountError> {
        let name = name.to_owned();
        self.database
            .call(move |connection| {
                let user = id_of(connection, &name)?;
                let sql = "SELECT preferences FROM users WHERE id = ?";
                Ok(read(&connection.query_row(sql, [user], |row| row.get::<_, String>(0))?))
            })
            .await
    }

    /// Sets a user's preferences. Sessions that they forbid end at once.
    ///
    /// # Errors
    /// No such user, or a list that is too long.
    pub async fn set_preferences(&self, name: &str, preferences: Preferences) -> Result<(), AccountError> {
        if preferences.watched.allow.len() > MAX_SUBJECTS || preferences.auto_accept.len() > MAX_SUBJECTS {
            return Err(AccountError::TooMany("entries"));
        }
        let name = name.to_owned();
        self.database
            .call(move |connection| {
                let user = id_of(connection, &name)?;
                write(connection, user, &preferences)
            })
            .await?;
        self.change();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::permissions::Role;
    use super::*;

    #[test]
    fn lists_name_people_and_what_is_not_understood_asks() {
        let text = r#"{"watched":{"allow":["role:dispatcher"],"others":"never","sound":false},"auto_accept":["user:Anna"]}"#;
        let mut preferences = read(text);
        let person = |name: &str, role| Person { name: name.into(), role, groups: vec![] };
        assert!(preferences.lets_watch(&person("dan", Role::Dispatcher)));
        assert!(!preferences.lets_watch(&person("anna", Role::Member)));
        assert!(preferences.accepts(&person("anna", Role::Member)));
        assert!(preferences.without("user:anna") && preferences.auto_accept.is_empty());
        assert_eq!(read("rubbish"), Preferences::default());
        assert_eq!(Preferences::default().watched.others, Consent::Ask);
    }
}
