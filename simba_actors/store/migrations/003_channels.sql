-- Channels: publications, scores of canaries, and examples from live calls.

CREATE TABLE publications (
    channel TEXT NOT NULL,
    version INTEGER NOT NULL,
    kind TEXT NOT NULL,
    digest TEXT NOT NULL,
    origin INTEGER,
    share REAL,
    run_id TEXT,
    program INTEGER,
    publisher TEXT NOT NULL,
    reason TEXT NOT NULL,
    time REAL NOT NULL,
    pruned INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (channel, version)
) WITHOUT ROWID;
CREATE TABLE reports (
    channel TEXT NOT NULL,
    canary INTEGER NOT NULL,
    call_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    score REAL NOT NULL,
    time REAL NOT NULL,
    PRIMARY KEY (channel, canary, call_id)
) WITHOUT ROWID;
CREATE TABLE online_examples (
    channel TEXT NOT NULL,
    digest TEXT NOT NULL,
    version INTEGER NOT NULL,
    score REAL NOT NULL,
    time REAL NOT NULL,
    example TEXT NOT NULL,
    PRIMARY KEY (channel, digest)
) WITHOUT ROWID;
