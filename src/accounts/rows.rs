//! What the queries of several tables share: a user's number, and columns that hold roles and lists. It knows no
//! table but `users`, and everything else in this folder may stand on it.

use rusqlite::{Connection, OptionalExtension};

use super::AccountError;
use super::permissions::Role;

/// A user's number.
pub(super) fn id_of(connection: &Connection, name: &str) -> Result<i64, AccountError> {
    let id = connection.query_row("SELECT id FROM users WHERE name = ?", [name], |row| row.get(0));
    id.optional()?.ok_or(AccountError::NotFound("user"))
}

/// A role as it is stored. The table's check keeps others out; were one there, it would be the least.
pub(super) fn role_of(text: &str) -> Role {
    text.parse().unwrap_or(Role::Guest)
}

/// A JSON list of texts as queries return it.
pub(super) fn list_of(json: &str) -> Vec<String> {
    serde_json::from_str(json).unwrap_or_default()
}
