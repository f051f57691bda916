//! Users and groups: their rows, and the invariants that keep them consistent (valid names, at least one admin).
//! What they may do is decided in `permissions`. Start at [`Accounts::add_user`].

use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;

use super::credentials::Credential;
use super::permissions::{Role, Subject, is_title};
use super::preferences::{self, Preferences};
use super::rows::{id_of, list_of, role_of};
use super::{AccountError, Accounts, calls, millis, password, settings};
use crate::ids::is_name;
use crate::secret::Secret;

/// Most accounts.
const MAX_USERS: i64 = 100_000;
/// Most groups.
const MAX_GROUPS: i64 = 1_000;

/// An account as lists show it.
#[derive(Clone, Debug, Serialize)]
pub struct UserView {
    /// The login name.
    pub name: String,
    /// The display name.
    pub display: String,
    /// The role.
    pub role: Role,
    /// Names of groups.
    pub groups: Vec<String>,
    /// Whether the password has to be changed at the next login.
    pub must_change: bool,
    /// Whether they can log in.
    pub disabled: bool,
    /// Milliseconds since 1970.
    pub created_at: i64,
    /// When one of their logins was last used, if there is one.
    pub seen_at: Option<i64>,
    /// How many logins they have.
    pub logins: i64,
    /// Their own settings.
    #[serde(skip)]
    pub preferences: Preferences,
}

/// An account to be created.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// The login name.
    pub name: String,
    /// The display name; the login name if empty.
    pub display: String,
    /// The role.
    pub role: Role,
    /// Names of groups that exist.
    pub groups: Vec<String>,
    /// Whether the password has to be changed at the first login.
    pub must_change: bool,
}

/// The fields of an account to change; `None` leaves one as it is.
#[derive(Clone, Debug, Default)]
pub struct UserChange {
    /// The display name.
    pub display: Option<String>,
    /// The role.
    pub role: Option<Role>,
    /// Names of groups that exist.
    pub groups: Option<Vec<String>>,
    /// Whether they can log in. Disabling ends all of their logins.
    pub disabled: Option<bool>,
}

/// A group and its members.
#[derive(Clone, Debug, Serialize)]
pub struct GroupView {
    /// Its name.
    pub name: String,
    /// Login names.
    pub members: Vec<String>,
}

impl Accounts {
    /// Adds a user.
    ///
    /// # Errors
    /// An invalid or taken name, a weak password, an unknown group.
    pub async fn add_user(&self, new: NewUser, password: &Secret) -> Result<(), AccountError> {
        if !is_name(&new.name) {
            let allowed = "1 to 64 letters, digits, '.', '_' or '-', not beginning with '.'";
            return Err(AccountError::Invalid("name", allowed.into()));
        }
        password::check(password, &new.name)?;
        let hash = self.hasher.hash(password).await?;
        self.database.call(move |connection| add(connection, &new, &hash)).await?;
        self.change();
        Ok(())
    }

    /// All users by name.
    ///
    /// # Errors
    /// Database errors.
    pub async fn users(&self) -> Result<Vec<UserView>, AccountError> {
        self.database.call(list).await
    }

    /// Changes a user.
    ///
    /// # Errors
    /// No such user or group, an invalid name, the last admin.
    pub async fn change_user(&self, name: &str, change: UserChange) -> Result<(), AccountError> {
        let name = name.to_owned();
        self.database.call(move |connection| apply(connection, &name, &change)).await?;
        self.change();
        Ok(())
    }

    /// Sets a user's password, which ends all of their logins.
    ///
    /// # Errors
    /// No such user, a weak password.
    pub async fn reset_password(
        &self,
        name: &str,
        new: &Secret,
        must_change: bool,
    ) -> Result<(), AccountError> {
        password::check(new, name)?;
        let (hash, name) = (self.hasher.hash(new).await?, name.to_owned());
        self.database
            .call(move |connection| {
                let user = id_of(connection, &name)?;
                set_password(connection, user, &hash, must_change, None)
            })
            .await?;
        self.change();
        Ok(())
    }

    /// Removes a user with everything that belongs to them.
    ///
    /// # Errors
    /// No such user, the last admin.
    pub async fn remove_user(&self, name: &str) -> Result<(), AccountError> {
        let name = name.to_owned();
        self.database
            .call(move |connection| {
                let user = id_of(connection, &name)?;
                connection.execute("DELETE FROM users WHERE id = ?", [user])?;
                // A later account with the same name must not inherit anything.
                settings::forget_subject(connection, &Subject::User(name.clone()))?;
                preferences::forget_subject(connection, &Subject::User(name.clone()))?;
                calls::forget_name(connection, &name)?;
                require_admin(connection)
            })
            .await?;
        self.change();
        Ok(())
    }

    /// Sets a user's preferred language (`zh`, `en` or none) and display name.
    ///
    /// # Errors
    /// No such user.
    pub async fn set_profile(&self, name: &str, language: &str, display: &str) -> Result<(), AccountError> {
        if !["", "zh", "en"].contains(&language) {
            return Err(AccountError::Invalid("language", "\"zh\", \"en\" or \"\"".into()));
        }
        let display = checked_display(display, name)?;
        let (name, language) = (name.to_owned(), language.to_owned());
        self.database
            .call(move |connection| {
                let user = id_of(connection, &name)?;
                let sql = "UPDATE users SET language = ?, display = ? WHERE id = ?";
                connection.execute(sql, params![language, display, user])?;
                Ok(())
            })
            .await
    }

    /// All groups by name.
    ///
    /// # Errors
    /// Database errors.
    pub async fn groups(&self) -> Result<Vec<GroupView>, AccountError> {
        self.database.call(list_groups).await
    }

    /// Creates a group, or sets its members.
    ///
    /// # Errors
    /// An invalid name, an unknown user.
    pub async fn set_group(&self, name: &str, members: Vec<String>) -> Result<(), AccountError> {
        if !is_title(name) || name.contains(['/', ',']) {
            return Err(AccountError::Invalid("group", "1 to 64 characters without / and ,".into()));
        }
        let name = name.to_owned();
        self.database.call(move |connection| set_group(connection, &name, &members)).await?;
        self.change();
        Ok(())
    }

    /// Removes a group, and also from the allow lists set on the page and in preferences.
    ///
    /// # Errors
    /// No such group.
    pub async fn remove_group(&self, name: &str) -> Result<(), AccountError> {
        let name = name.to_owned();
        self.database
            .call(move |connection| {
                settings::forget_subject(connection, &Subject::Group(name.clone()))?;
                preferences::forget_subject(connection, &Subject::Group(name.clone()))?;
                match connection.execute("DELETE FROM groups WHERE name = ?", [&name])? {
                    0 => Err(AccountError::NotFound("group")),
                    _ => Ok(()),
                }
            })
            .await?;
        self.change();
        Ok(())
    }
}

/// Whether there are any users.
pub(super) fn any(connection: &Connection) -> Result<bool, AccountError> {
    Ok(connection.query_row("SELECT EXISTS (SELECT 1 FROM users)", [], |row| row.get(0))?)
}

/// Number and password hash of a user who can log in.
pub(super) fn password_of(
    connection: &Connection,
    name: &str,
) -> Result<Option<(i64, String)>, AccountError> {
    let sql = "SELECT id, password FROM users WHERE name = ? AND disabled = 0";
    Ok(connection.query_row(sql, [name], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
}

/// Checks that a verified password is still the stored one.
///
/// # Errors
/// The password was changed, or the user disabled, in the meantime.
pub(super) fn require_password(
    connection: &Connection,
    verified: &super::Verified,
) -> Result<(), AccountError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM users WHERE id = ? AND password = ? AND disabled = 0)";
    let same = connection.query_row(sql, params![verified.user, verified.hash], |row| row.get(0))?;
    if same { Ok(()) } else { Err(AccountError::WrongPassword) }
}

/// Sets a password and ends all logins except the one that asked for it. Tokens are kept: they have their own page.
pub(super) fn set_password(
    connection: &Connection,
    user: i64,
    hash: &str,
    must_change: bool,
    kept: Option<Credential>,
) -> Result<(), AccountError> {
    let sql = "UPDATE users SET password = ?, must_change = ? WHERE id = ?";
    connection.execute(sql, params![hash, must_change, user])?;
    let kept = match kept {
        Some(Credential::Login(id)) => id,
        _ => 0,
    };
    connection.execute("DELETE FROM logins WHERE user_id = ? AND id != ?", [user, kept])?;
    connection.execute("DELETE FROM tickets WHERE user_id = ?", [user])?;
    Ok(())
}

fn checked_display(display: &str, name: &str) -> Result<String, AccountError> {
    let display = display.trim();
    if display.is_empty() {
        return Ok(name.to_owned());
    }
    if !is_title(display) {
        return Err(AccountError::Invalid("display", "at most 64 characters in one line".into()));
    }
    Ok(display.to_owned())
}

fn add(connection: &Connection, new: &NewUser, hash: &str) -> Result<(), AccountError> {
    let display = checked_display(&new.display, &new.name)?;
    let count: i64 = connection.query_row("SELECT count(*) FROM users", [], |row| row.get(0))?;
    if count >= MAX_USERS {
        return Err(AccountError::TooMany("users"));
    }
    if id_of(connection, &new.name).is_ok() {
        return Err(AccountError::Taken("user"));
    }
    let sql = "INSERT INTO users (name, display, role, password, must_change, created_at) VALUES (?, ?, ?, ?, ?, ?)";
    let now = millis(std::time::SystemTime::now());
    connection.execute(sql, params![new.name, display, new.role.as_str(), hash, new.must_change, now])?;
    set_groups(connection, connection.last_insert_rowid(), &new.groups)
}

fn set_groups(connection: &Connection, user: i64, groups: &[String]) -> Result<(), AccountError> {
    connection.execute("DELETE FROM members WHERE user_id = ?", [user])?;
    for group in groups {
        let sql = "INSERT OR IGNORE INTO members SELECT ?, id FROM groups WHERE name = ?";
        let known = "SELECT EXISTS (SELECT 1 FROM groups WHERE name = ?)";
        if !connection.query_row(known, [group], |row| row.get::<_, bool>(0))? {
            return Err(AccountError::NotFound("group"));
        }
        connection.execute(sql, params![user, group])?;
    }
    Ok(())
}

fn apply(connection: &Connection, name: &str, change: &UserChange) -> Result<(), AccountError> {
    let user = id_of(connection, name)?;
    if let Some(display) = &change.display {
        let display = checked_display(display, name)?;
        connection.execute("UPDATE users SET display = ? WHERE id = ?", params![display, user])?;
    }
    if let Some(role) = change.role {
        connection.execute("UPDATE users SET role = ? WHERE id = ?", params![role.as_str(), user])?;
    }
    if let Some(groups) = &change.groups {
        set_groups(connection, user, groups)?;
    }
    if let Some(disabled) = change.disabled {
        connection.execute("UPDATE users SET disabled = ? WHERE id = ?", params![disabled, user])?;
        if disabled {
            connection.execute("DELETE FROM logins WHERE user_id = ?", [user])?;
        }
    }
    require_admin(connection)
}

fn require_admin(connection: &Connection) -> Result<(), AccountError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM users WHERE role = 'admin' AND disabled = 0)";
    if connection.query_row(sql, [], |row| row.get(0))? { Ok(()) } else { Err(AccountError::LastAdmin) }
}

fn list(connection: &Connection) -> Result<Vec<UserView>, AccountError> {
    let sql = "SELECT name, display, role, must_change, disabled, created_at,
                 (SELECT json_group_array(groups.name) FROM members JOIN groups ON groups.id = group_id
                  WHERE user_id = users.id),
                 (SELECT max(seen_at) FROM logins WHERE user_id = users.id),
                 (SELECT count(*) FROM logins WHERE user_id = users.id), preferences
               FROM users ORDER BY name";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([], |row| {
        Ok(UserView {
            name: row.get(0)?,
            display: row.get(1)?,
            role: role_of(&row.get::<_, String>(2)?),
            must_change: row.get(3)?,
            disabled: row.get(4)?,
            created_at: row.get(5)?,
            groups: list_of(&row.get::<_, String>(6)?),
            seen_at: row.get(7)?,
            logins: row.get(8)?,
            preferences: preferences::read(&row.get::<_, String>(9)?),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn list_groups(connection: &Connection) -> Result<Vec<GroupView>, AccountError> {
    let sql =
        "SELECT name, (SELECT json_group_array(users.name) FROM members JOIN users ON users.id = user_id
                             WHERE group_id = groups.id)
               FROM groups ORDER BY name";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([], |row| {
        Ok(GroupView { name: row.get(0)?, members: list_of(&row.get::<_, String>(1)?) })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn set_group(connection: &Connection, name: &str, members: &[String]) -> Result<(), AccountError> {
    let count: i64 = connection.query_row("SELECT count(*) FROM groups", [], |row| row.get(0))?;
    if count >= MAX_GROUPS {
        return Err(AccountError::TooMany("groups"));
    }
    connection.execute("INSERT OR IGNORE INTO groups (name) VALUES (?)", [name])?;
    let group: i64 =
        connection.query_row("SELECT id FROM groups WHERE name = ?", [name], |row| row.get(0))?;
    connection.execute("DELETE FROM members WHERE group_id = ?", [group])?;
    for member in members {
        let user = id_of(connection, member)?;
        connection.execute("INSERT OR IGNORE INTO members VALUES (?, ?)", [user, group])?;
    }
    Ok(())
}
