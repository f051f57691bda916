-- While the disk cannot be written: a copy of the logins in memory. The database resolves the name to this table first,
-- so that logging in, and noting when a login was last used, work as before. See disk.rs.
CREATE TEMP TABLE logins (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  user_id INTEGER NOT NULL,
  hash BLOB NOT NULL UNIQUE,
  created_at INTEGER NOT NULL,
  seen_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  address TEXT NOT NULL,
  agent TEXT NOT NULL
) STRICT;
INSERT INTO temp.logins SELECT * FROM main.logins;
-- Numbers are never given twice, also those of logins that have ended.
CREATE TEMP TABLE sheltered (last_id INTEGER NOT NULL) STRICT;
INSERT INTO temp.sheltered
  SELECT coalesce((SELECT seq FROM main.sqlite_sequence WHERE name = 'logins'), 0);
DELETE FROM temp.sqlite_sequence WHERE name = 'logins';
INSERT INTO temp.sqlite_sequence (name, seq) SELECT 'logins', last_id FROM temp.sheltered;
