-- The disk can be written again: what happened to the logins in memory happens in the file. A login that has ended in
-- the file meanwhile, by another process, stays ended.
DELETE FROM main.logins WHERE id NOT IN (SELECT id FROM temp.logins);
UPDATE main.logins AS stored SET seen_at = kept.seen_at, expires_at = kept.expires_at
  FROM temp.logins AS kept WHERE kept.id = stored.id;
INSERT INTO main.logins SELECT * FROM temp.logins
  WHERE id > (SELECT last_id FROM temp.sheltered) AND user_id IN (SELECT id FROM main.users);
DROP TABLE temp.logins;
DROP TABLE temp.sheltered;
