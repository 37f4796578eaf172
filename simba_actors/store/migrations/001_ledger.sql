-- Runs, their programs, steps, proposals, rollouts and events.

CREATE TABLE runs (
    run_id TEXT PRIMARY KEY,
    status TEXT NOT NULL,
    reason TEXT,
    fingerprint TEXT NOT NULL,
    settings TEXT NOT NULL,
    result TEXT,
    calls_reserved INTEGER NOT NULL DEFAULT 0,
    created REAL NOT NULL,
    updated REAL NOT NULL,
    owner TEXT,
    owner_token TEXT,
    lease_until REAL NOT NULL DEFAULT 0
);
CREATE TABLE configurations (
    digest TEXT PRIMARY KEY,
    value TEXT NOT NULL
);
CREATE TABLE programs (
    run_id TEXT NOT NULL REFERENCES runs,
    number INTEGER NOT NULL,
    digest TEXT NOT NULL REFERENCES configurations,
    parents TEXT NOT NULL,
    strategy TEXT NOT NULL,
    step INTEGER NOT NULL,
    provenance TEXT NOT NULL,
    PRIMARY KEY (run_id, number)
);
CREATE TABLE steps (
    run_id TEXT NOT NULL REFERENCES runs,
    step INTEGER NOT NULL,
    plan TEXT NOT NULL,
    result TEXT,
    PRIMARY KEY (run_id, step)
);
CREATE TABLE proposals (
    run_id TEXT NOT NULL REFERENCES runs,
    step INTEGER NOT NULL,
    slot INTEGER NOT NULL,
    intent TEXT NOT NULL,
    program INTEGER,
    reason TEXT,
    calls INTEGER NOT NULL,
    prompt_tokens INTEGER,
    completion_tokens INTEGER,
    cost REAL,
    PRIMARY KEY (run_id, step, slot)
);
CREATE TABLE rollouts (
    run_id TEXT NOT NULL REFERENCES runs,
    step INTEGER NOT NULL,
    phase TEXT NOT NULL,
    position INTEGER NOT NULL,
    program INTEGER NOT NULL,
    split TEXT NOT NULL,
    example INTEGER NOT NULL,
    model TEXT NOT NULL,
    outcome TEXT,
    score REAL,
    seconds REAL,
    calls INTEGER,
    prompt_tokens INTEGER,
    completion_tokens INTEGER,
    cost REAL,
    trajectory TEXT,
    UNIQUE (run_id, step, phase, position)
);
CREATE INDEX rollouts_by_program ON rollouts (run_id, program);
CREATE TABLE events (
    run_id TEXT NOT NULL REFERENCES runs,
    seq INTEGER NOT NULL,
    time REAL NOT NULL,
    kind TEXT NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (run_id, seq)
) WITHOUT ROWID;
