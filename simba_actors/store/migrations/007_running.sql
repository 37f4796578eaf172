-- Rollouts in progress, as a number: `state` says it in words alone.

ALTER TABLE gauges ADD COLUMN running INTEGER;
