"""The tables, and how a file of an older version becomes one of this version."""

from __future__ import annotations

APPLICATION_ID = 0x53494D42
"""Marks the file as a store of this package ("SIMB"): https://sqlite.org/pragma.html#pragma_application_id."""

ROLLOUT_SUMS = (
    "COUNT(outcome), TOTAL(outcome <> 'scored'), TOTAL(score), TOTAL(score * score), TOTAL(calls), "
    "TOTAL(prompt_tokens), TOTAL(completion_tokens), TOTAL(cost), "
    "TOTAL(outcome IS NOT NULL AND (prompt_tokens IS NULL OR completion_tokens IS NULL)), "
    "TOTAL(outcome IS NOT NULL AND cost IS NULL)"
)
"""Of rollouts: what `tallies` keeps up to date for each step, phase and program, so that no page has to count."""

MIGRATIONS: tuple[str, ...] = (
    """
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
    """,
    f"""
    CREATE TABLE tallies (
        run_id TEXT NOT NULL REFERENCES runs,
        step INTEGER NOT NULL,
        phase TEXT NOT NULL,
        program INTEGER NOT NULL,
        planned INTEGER NOT NULL,
        done INTEGER NOT NULL DEFAULT 0,
        failures INTEGER NOT NULL DEFAULT 0,
        scores REAL NOT NULL DEFAULT 0,
        squares REAL NOT NULL DEFAULT 0,
        calls INTEGER NOT NULL DEFAULT 0,
        prompt_tokens INTEGER NOT NULL DEFAULT 0,
        completion_tokens INTEGER NOT NULL DEFAULT 0,
        cost REAL NOT NULL DEFAULT 0,
        tokens_unknown INTEGER NOT NULL DEFAULT 0,
        cost_unknown INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (run_id, step, phase, program)
    ) WITHOUT ROWID;
    CREATE TABLE gauges (
        run_id TEXT NOT NULL REFERENCES runs,
        actor TEXT NOT NULL,
        mailbox INTEGER NOT NULL,
        handled INTEGER NOT NULL,
        state TEXT NOT NULL,
        PRIMARY KEY (run_id, actor)
    ) WITHOUT ROWID;
    CREATE INDEX events_of_actors ON events (run_id, seq) WHERE kind IN ('ActorCrashed', 'ActorRestarted');
    INSERT INTO tallies SELECT run_id, step, phase, program, COUNT(*), {ROLLOUT_SUMS}
        FROM rollouts GROUP BY run_id, step, phase, program;
    CREATE TRIGGER rollout_planned AFTER INSERT ON rollouts BEGIN
        INSERT INTO tallies (run_id, step, phase, program, planned)
            VALUES (NEW.run_id, NEW.step, NEW.phase, NEW.program, 1)
            ON CONFLICT DO UPDATE SET planned = planned + 1;
    END;
    CREATE TRIGGER rollout_done AFTER UPDATE OF outcome ON rollouts WHEN OLD.outcome IS NULL BEGIN
        UPDATE tallies SET
            done = done + 1,
            failures = failures + (NEW.outcome <> 'scored'),
            scores = scores + NEW.score,
            squares = squares + NEW.score * NEW.score,
            calls = calls + NEW.calls,
            prompt_tokens = prompt_tokens + COALESCE(NEW.prompt_tokens, 0),
            completion_tokens = completion_tokens + COALESCE(NEW.completion_tokens, 0),
            cost = cost + COALESCE(NEW.cost, 0),
            tokens_unknown = tokens_unknown + (NEW.prompt_tokens IS NULL OR NEW.completion_tokens IS NULL),
            cost_unknown = cost_unknown + (NEW.cost IS NULL)
            WHERE run_id = NEW.run_id AND step = NEW.step AND phase = NEW.phase AND program = NEW.program;
    END;
    """,
    """
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
    """,
    """
    ALTER TABLE steps ADD COLUMN progress TEXT;
    """,
)
"""`MIGRATIONS[n]` takes a file from version n to version n + 1. What has been released here is never changed."""

VERSION = len(MIGRATIONS)
