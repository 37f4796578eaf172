-- What a run had found and used when a step was closed.

ALTER TABLE steps ADD COLUMN progress TEXT;
