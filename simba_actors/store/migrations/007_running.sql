-- Rollouts in progress, as a number: `state` says it in words alone. Some early stores have no gauges.

CREATE TABLE IF NOT EXISTS gauges (
    run_id TEXT NOT NULL REFERENCES runs,
    actor TEXT NOT NULL,
    mailbox INTEGER NOT NULL,
    handled INTEGER NOT NULL,
    state TEXT NOT NULL,
    PRIMARY KEY (run_id, actor)
) WITHOUT ROWID;
ALTER TABLE gauges ADD COLUMN running INTEGER;
