-- Generations that fence writes, requests to a run's owner, texts stored once, checksums, and tallies by LM.

ALTER TABLE runs ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;

CREATE TABLE requests (
    id INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL REFERENCES runs,
    kind TEXT NOT NULL,
    reason TEXT NOT NULL,
    requester TEXT NOT NULL,
    time REAL NOT NULL,
    taken REAL
);

CREATE TABLE texts (
    digest TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

ALTER TABLE rollouts ADD COLUMN checksum INTEGER;
ALTER TABLE steps ADD COLUMN checksum INTEGER;
ALTER TABLE proposals ADD COLUMN checksum INTEGER;
ALTER TABLE programs ADD COLUMN checksum INTEGER;
ALTER TABLE events ADD COLUMN checksum INTEGER;
ALTER TABLE publications ADD COLUMN checksum INTEGER;

DROP TRIGGER rollout_planned;
DROP TRIGGER rollout_done;
DROP TABLE tallies;
CREATE TABLE tallies (
    run_id TEXT NOT NULL REFERENCES runs,
    step INTEGER NOT NULL,
    phase TEXT NOT NULL,
    program INTEGER NOT NULL,
    lm TEXT NOT NULL,
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
    PRIMARY KEY (run_id, step, phase, program, lm)
) WITHOUT ROWID;
INSERT INTO tallies
    SELECT run_id, step, phase, program, model ->> 0, COUNT(*), COUNT(outcome), TOTAL(outcome <> 'scored'),
        TOTAL(score), TOTAL(score * score), TOTAL(calls), TOTAL(prompt_tokens), TOTAL(completion_tokens), TOTAL(cost),
        TOTAL(outcome IS NOT NULL AND (prompt_tokens IS NULL OR completion_tokens IS NULL)),
        TOTAL(outcome IS NOT NULL AND cost IS NULL)
    FROM rollouts GROUP BY run_id, step, phase, program, model ->> 0;
CREATE TRIGGER rollout_planned AFTER INSERT ON rollouts BEGIN
    INSERT INTO tallies (run_id, step, phase, program, lm, planned)
        VALUES (NEW.run_id, NEW.step, NEW.phase, NEW.program, NEW.model ->> 0, 1)
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
        WHERE run_id = NEW.run_id AND step = NEW.step AND phase = NEW.phase AND program = NEW.program
            AND lm = NEW.model ->> 0;
END;
