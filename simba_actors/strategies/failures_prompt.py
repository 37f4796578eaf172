"""Prompts that show the prompt model several failed runs, in the words of `dspy.SIMBA`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import dspy

from simba_actors.dspy_compat.simba import inspect_modules, offer_feedback
from simba_actors.programs import to_json_value
from simba_actors.search.buckets import Bucket
from simba_actors.search.rollout import JSON
from simba_actors.strategies.contract import StrategyContext
from simba_actors.strategies.rule_prompt import Prompt, as_prompt, program_code, run_fields, withheld

FIELDS_AS_TEXT = ("worse_reward_value", "better_reward_value", "module_names")
"""Fields of DSPy's signature that are numbers or lists there. Here they are text, which can describe several runs."""


@cache
def failures_signature() -> type[dspy.Signature]:
    """Return `dspy.SIMBA`'s question with fields that can describe several runs.

    Made once: it takes DSPy some 20 ms, which block the event loop.
    """
    signature: Any = offer_feedback()
    for name in FIELDS_AS_TEXT:
        signature = signature.with_updated_fields(name, type_=str)
    return signature


def failure_prompts(context: StrategyContext) -> list[Prompt]:
    """Return the prompt about all examples, then the one about the first example alone.

    Call it with `context.in_thread`: a student with 800 predictors takes half a second.
    """
    program = {
        "program_code": program_code(context.program),
        "modules_defn": inspect_modules(context.program),
        "module_names": list[JSON](context.source.predictors),
    }
    prompts = [_prompt(program, context.buckets, context.examples)]
    if len(context.buckets) > 1:
        prompts.append(_prompt(program, context.buckets[:1], context.examples[:1]))
    return prompts


def _prompt(program: Mapping[str, JSON], buckets: Sequence[Bucket], examples: Sequence[dspy.Example]) -> Prompt:
    runs = [_runs(bucket) for bucket in buckets]
    return as_prompt(
        {
            **program,
            "program_inputs": _one_or_all([to_json_value(dict(example.inputs())) for example in examples]),
            "oracle_metadata": _one_or_all([to_json_value(dict(example.labels())) for example in examples]),
            **{name: _one_or_all([run[name] for run in runs]) for name in runs[0]},
        }
    )


def _runs(bucket: Bucket) -> dict[str, JSON]:
    """Return the fields of the worst run of an example, and of its best run if that was better."""
    worse, better = run_fields(bucket.worst.trajectory), run_fields(bucket.best.trajectory)
    if bucket.max_to_min_gap <= 0:
        better = withheld(better)
    return {
        **{f"worse_{name}": value for name, value in worse.items()},
        **{f"better_{name}": value for name, value in better.items()},
    }


def _one_or_all(values: Sequence[JSON]) -> JSON:
    return values[0] if len(values) == 1 else list(values)
