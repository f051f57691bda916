-- The address of a camera's sub stream.
ALTER TABLE cameras ADD COLUMN sub_url TEXT;
