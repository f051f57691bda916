//! Helpers shared by the queries of several tables: a user's number, and columns that hold roles and lists. It
//! knows no table but `users`, and every other module in this folder may use it.

use rusqlite::{Connection, OptionalExtension};

use super::AccountError;
use super::permissions::Role;

/// A user's number.
pub(super) fn id_of(connection: &Connection, name: &str) -> Result<i64, AccountError> {
    let id = connection.query_row("SELECT id FROM users WHERE name = ?", [name], |row| row.get(0));
    id.optional()?.ok_or(AccountError::NotFound("user"))
}

/// Parses a stored role. The table's CHECK prevents unknown ones; if there is one anyway, it gets the fewest rights.
pub(super) fn role_of(text: &str) -> Role {
    text.parse().unwrap_or(Role::Guest)
}

/// Parses a JSON list of strings as queries return it.
pub(super) fn list_of(json: &str) -> Vec<String> {
    serde_json::from_str(json).unwrap_or_default()
}
