"""Rows and the values they stand for."""

from __future__ import annotations

from typing import Any, cast

import orjson

from simba_actors.programs import to_json_value
from simba_actors.search.plan import ModelSpec, Rollout, RolloutKey
from simba_actors.search.trajectory import JSON, Outcome, TraceStep, Trajectory, Usage
from simba_actors.store.records import RolloutRecord

INTENT_COLUMNS = "step, phase, position, program, split, example, model"
RESULT_COLUMNS = "outcome, score, seconds, calls, prompt_tokens, completion_tokens, cost, trajectory"


def dumps(value: Any) -> str:
    try:
        return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:
        # Texts of errors hold anything, such as half of a surrogate pair. A run is not to end for want of a record.
        return orjson.dumps(to_json_value(value)).decode()


def loads(text: str | None) -> Any:
    return None if text is None else orjson.loads(text)


def intent_row(rollout: Rollout) -> tuple[Any, ...]:
    key, model = rollout.key, rollout.model
    return (
        key.step,
        key.phase,
        key.position,
        rollout.program,
        rollout.split,
        rollout.example,
        dumps([model.lm, model.rollout_id, model.temperature]),
    )


def result_row(trajectory: Trajectory) -> tuple[Any, ...]:
    usage = trajectory.usage
    payload: dict[str, Any] = {
        "score": trajectory.score,  # The column is a float; here the metric's own type is kept.
        "prediction": trajectory.prediction,
        "trace": [[step.predictor, step.inputs, step.outputs] for step in trajectory.trace],
        "feedback": trajectory.feedback,
        "error": trajectory.error,
    }
    if trajectory.cut_off:
        payload["cut_off"] = True
    return (
        trajectory.outcome.value,
        float(trajectory.score),
        trajectory.seconds,
        usage.calls,
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.cost,
        dumps(payload),
    )


def rollout_record(row: Any) -> RolloutRecord:
    """From a row of `INTENT_COLUMNS` and, where it has a result, `RESULT_COLUMNS`."""
    step, phase, position, program, split, example, model, *result = row
    rollout = Rollout(RolloutKey(step, phase, position), program, example, ModelSpec(*loads(model)), split)
    return RolloutRecord(rollout, _trajectory(result) if result else None)


def _trajectory(result: list[Any]) -> Trajectory:
    outcome, _, seconds, calls, prompt_tokens, completion_tokens, cost, payload = result
    stored = cast("dict[str, Any]", loads(payload))
    return Trajectory(
        Outcome(outcome),
        stored["score"],
        cast("dict[str, JSON] | None", stored["prediction"]),
        tuple(TraceStep(*step) for step in stored["trace"]),
        stored["feedback"],
        Usage(calls, prompt_tokens, completion_tokens, cost),
        seconds,
        stored["error"],
        stored.get("cut_off", False),
    )
