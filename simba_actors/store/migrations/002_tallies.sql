-- Sums of rollouts for each step, phase and program, so that no page has to count; gauges of actors.

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
INSERT INTO tallies SELECT run_id, step, phase, program, COUNT(*), COUNT(outcome), TOTAL(outcome <> 'scored'), TOTAL(score), TOTAL(score * score), TOTAL(calls), TOTAL(prompt_tokens), TOTAL(completion_tokens), TOTAL(cost), TOTAL(outcome IS NOT NULL AND (prompt_tokens IS NULL OR completion_tokens IS NULL)), TOTAL(outcome IS NOT NULL AND cost IS NULL)
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
