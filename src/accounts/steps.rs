//! The machine's clock has been set: what this start of the server has written by the time before is moved along, so that
//! logins, tokens and tickets last as long as they should. What earlier starts have written was written by another
//! time, and stays. Start at [`Accounts::adopt`].

use rusqlite::{Connection, named_params};

use super::{AccountError, Accounts, millis};
use crate::clock::Step;

impl Accounts {
    /// Follows a step of the machine's clock.
    ///
    /// # Errors
    /// Database errors: then the clock goes on as before.
    pub async fn adopt(&self, step: Step) -> Result<(), AccountError> {
        let began = self.began.load(std::sync::atomic::Ordering::Relaxed);
        let now = millis(step.from);
        self.database.call(move |connection| move_along(connection, began, now, step.millis())).await?;
        self.began.store(began + step.millis(), std::sync::atomic::Ordering::Relaxed);
        self.clock.adopt();
        Ok(())
    }
}

/// Moves what was written between two times by this many milliseconds.
fn move_along(connection: &Connection, began: i64, now: i64, by: i64) -> Result<(), AccountError> {
    let steps = [
        "UPDATE logins SET seen_at = seen_at + :by, expires_at = expires_at + :by,
           created_at = created_at + iif(created_at BETWEEN :began AND :now, :by, 0)
         WHERE seen_at BETWEEN :began AND :now",
        "UPDATE tokens SET created_at = created_at + :by, expires_at = expires_at + :by
         WHERE created_at BETWEEN :began AND :now",
        "UPDATE tokens SET used_at = used_at + :by WHERE used_at BETWEEN :began AND :now",
        "UPDATE tickets SET created_at = created_at + :by, expires_at = expires_at + :by
         WHERE created_at BETWEEN :began AND :now",
        "UPDATE audit SET at = at + :by, until = until + :by WHERE at BETWEEN :began AND :now",
    ];
    for sql in steps {
        connection.execute(sql, named_params! { ":by": by, ":began": began, ":now": now })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::database::Database;

    #[tokio::test]
    async fn only_what_this_start_has_written_moves() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&folder.path().join("g.db")).unwrap();
        let setup = "INSERT INTO users (name, display, role, password, created_at) VALUES ('anna', '', 'member', '', 0);
            INSERT INTO logins VALUES (1, 1, x'01', 50, 60, 900, '', ''), (2, 1, x'02', 50, 110, 910, '', ''),
              (3, 1, x'03', 120, 130, 930, '', '');
            INSERT INTO tokens (id, user_id, name, hash, scopes, created_at, used_at, expires_at) VALUES
              (1, 1, 'a', x'04', '', 50, 110, 950), (2, 1, 'b', x'05', '', 120, NULL, NULL);
            INSERT INTO audit (at, until, actor, address, action, target, detail) VALUES
              (90, 110, '', '', 'watch', '', ''), (110, NULL, '', '', 'watch', '', '')";
        database.call(move |connection| Ok(connection.execute_batch(setup)?)).await.unwrap();
        database.call(|connection| move_along(connection, 100, 200, 1000)).await.unwrap();
        let list = |sql: &'static str| {
            database.call(move |connection| Ok(connection.query_row(sql, [], |row| row.get::<_, String>(0))?))
        };
        let logins = list("SELECT json_group_array(json_array(created_at, seen_at, expires_at)) FROM logins");
        assert_eq!(logins.await.unwrap(), "[[50,60,900],[50,1110,1910],[1120,1130,1930]]");
        let tokens = list("SELECT json_group_array(json_array(created_at, used_at, expires_at)) FROM tokens");
        assert_eq!(tokens.await.unwrap(), "[[50,1110,950],[1120,null,null]]");
        let audit = list("SELECT json_group_array(json_array(at, until)) FROM audit");
        assert_eq!(audit.await.unwrap(), "[[90,110],[1110,null]]");
    }
}
