-- A ticket ends with the token that made it: null for those that were made by a login.
ALTER TABLE tickets ADD COLUMN token_id INTEGER REFERENCES tokens(id) ON DELETE CASCADE;
CREATE INDEX tickets_of_user ON tickets(user_id);
CREATE INDEX tickets_of_token ON tickets(token_id);
