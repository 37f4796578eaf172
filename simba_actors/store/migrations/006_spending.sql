-- What the owner counts of a run: tokens and dollars of all calls, results or not, and its own time by a monotonic clock.

ALTER TABLE runs ADD COLUMN tokens_used INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN cost_used REAL NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN seconds_up REAL NOT NULL DEFAULT 0;

UPDATE runs SET seconds_up = (
    SELECT TOTAL(time - before) FROM (
        SELECT run_id, kind, time, LAG(time) OVER (PARTITION BY run_id ORDER BY seq) AS before FROM events
        WHERE kind NOT IN ('ProgramPublished', 'CanaryJudged')
    ) AS gaps
    WHERE gaps.run_id = runs.run_id AND kind <> 'RunResumed' AND before IS NOT NULL
);
