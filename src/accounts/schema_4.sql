-- What people decide for themselves: who may watch their camera, whose calls are accepted by themselves. JSON.
ALTER TABLE users ADD COLUMN preferences TEXT NOT NULL DEFAULT '{}';
