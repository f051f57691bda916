-- Calls between people, by name, so that the history outlives them. `talked` is null for calls that were not accepted.
CREATE TABLE calls (
  id INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  caller TEXT NOT NULL COLLATE NOCASE,
  callee TEXT NOT NULL COLLATE NOCASE,
  video INTEGER NOT NULL,
  talked INTEGER,
  reason TEXT NOT NULL,
  message TEXT NOT NULL,
  seen INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX calls_of_caller ON calls(caller, id);
CREATE INDEX calls_of_callee ON calls(callee, id);
