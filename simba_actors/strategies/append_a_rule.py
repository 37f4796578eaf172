"""Ask the prompt model what set a bucket's best trajectory apart from its worst, and write that down as a rule."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import dspy
import orjson

from simba_actors.dspy_compat.custom_types import named
from simba_actors.dspy_compat.simba import inspect_modules, offer_feedback
from simba_actors.programs import Configuration, to_json_value
from simba_actors.search.trajectory import JSON, Trajectory
from simba_actors.strategies.contract import Declined, StrategyContext

NOT_AVAILABLE = "N/A"


@dataclass(frozen=True, slots=True)
class AppendARule:
    """`dspy.SIMBA`'s append_a_rule: advice for each predictor, appended to its instructions, in DSPy's own words."""

    @property
    def name(self) -> str:
        return "append_a_rule"

    def applicable(self, context: StrategyContext) -> Declined | None:
        bucket, statistics = context.buckets[0], context.statistics
        best, worst = bucket.best.trajectory.score, bucket.worst.trajectory.score
        if best <= statistics.p10:
            return Declined(f"the best score of the bucket, {best}, is not above the 10th percentile, {statistics.p10}")
        if worst >= statistics.p90:
            return Declined(
                f"the worst score of the bucket, {worst}, is not below the 90th percentile, {statistics.p90}"
            )
        return None

    async def apply(self, context: StrategyContext) -> Configuration | Declined:
        answer: Any = await context.prompt_model.ask(offer_feedback(), **self._inputs(context))
        advice: Mapping[str, str] = answer.module_advice
        configuration = context.source
        for predictor in configuration.predictors:
            if predictor in advice:
                instructions = f"{configuration.instructions(predictor)}\n\n{advice[predictor]}"
                configuration = configuration.with_instructions(predictor, instructions)
        return configuration

    def _inputs(self, context: StrategyContext) -> dict[str, str]:
        bucket, example = context.buckets[0], context.examples[0]
        worse = told(bucket.worst.trajectory)
        better = told(bucket.best.trajectory)
        if bucket.best.trajectory.score <= bucket.worst.trajectory.score:
            # DSPy withholds the better one of a tie, and with a bucket of one that is the worse one too.
            better = withheld(better)
            if bucket.best is bucket.worst:
                worse = better
        described: dict[str, Any] = {
            "program_code": program_code(context.program),
            "modules_defn": inspect_modules(context.program),
            "program_inputs": to_json_value(dict(example.inputs())),
            "oracle_metadata": to_json_value(dict(example.labels())),
            **{f"better_{name}": value for name, value in better.items()},
            **{f"worse_{name}": value for name, value in worse.items()},
            "module_names": list(context.source.predictors),
        }
        return {name: value if isinstance(value, str) else pretty(value) for name, value in described.items()}


def program_code(program: dspy.Module) -> str:
    """The source of the program's class, or its signatures where that cannot be read (a class made by `exec`)."""
    source = _source(type(program))
    return source or f"class {type(program).__name__}(dspy.Module):  # source not available\n{program!r}"


@lru_cache(maxsize=64)
def _source(program: type[dspy.Module]) -> str | None:
    """Read once: parsing a large file takes 20 ms and more, in which the host's event loop would stand still."""
    try:
        return inspect.getsource(program)
    except (OSError, TypeError):
        return None


def told(trajectory: Trajectory) -> dict[str, JSON]:
    """A run as the rule writer is told of it, by the endings of the field names in DSPy's signature."""
    return {
        "program_trajectory": [
            {"module_name": step.predictor, "inputs": dict(step.inputs), "outputs": dict(step.outputs)}
            for step in trajectory.trace
        ],
        "program_outputs": dict(trajectory.prediction or {}),
        "reward_value": trajectory.score,
        "reward_info": dict(trajectory.feedback),
    }


def withheld(run: dict[str, JSON]) -> dict[str, JSON]:
    """In place of a better run, where there is none."""
    return {
        **run,
        "program_trajectory": [],
        "program_outputs": {NOT_AVAILABLE: "Prediction not available"},
        "reward_value": NOT_AVAILABLE,
    }


def pretty(value: JSON) -> str:
    """Return `value` as indented JSON, with images, audio and files by their names alone."""
    return orjson.dumps(_with_named_media(value), option=orjson.OPT_INDENT_2).decode()


def _with_named_media(value: JSON) -> JSON:
    match value:
        case str():
            return named(value)
        case list():
            return [_with_named_media(item) for item in value]
        case dict():
            return {name: _with_named_media(item) for name, item in value.items()}
        case _:
            return value
