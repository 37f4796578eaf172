"""Ask the prompt model what several failed runs have to teach, and write each lesson down as a rule of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import dspy

from simba_actors.dspy_compat.simba import inspect_modules, offer_feedback
from simba_actors.programs import Configuration, to_json_value
from simba_actors.programs.parts import RULE_SEPARATOR
from simba_actors.search.buckets import Bucket
from simba_actors.search.trajectory import JSON
from simba_actors.strategies.append_a_rule import (
    pretty,
    program_code,
    told,
    withheld,
)
from simba_actors.strategies.contract import Declined, StrategyContext

SENTENCE_ENDS = (".", "!", "?")

NOT_ALWAYS_NUMBERS = ("worse_reward_value", "better_reward_value", "module_names")
"""Fields that `OfferFeedback` has as numbers or lists, which are text where they tell of several runs."""


@dataclass(frozen=True, slots=True)
class LearnFromFailures:
    """Advice for each predictor from several examples at once, in the words of `dspy.SIMBA`'s append_a_rule.

    One question about several failures costs as much as one about a single failure, and its answer leans less on the
    peculiarities of one (the reflection of GEPA: Agrawal et al., 2025). An example that went well once too is shown
    with its better run, for contrast; where none did, the better run is withheld.
    """

    @property
    def name(self) -> str:
        return "learn_from_failures"

    def applicable(self, context: StrategyContext) -> Declined | None:
        return None if context.buckets else Declined("there is no example to learn from")

    async def apply(self, context: StrategyContext) -> Configuration | Declined:
        answer: Any = await context.prompt_model.ask(_signature(), **_inputs(context))
        advice: Mapping[str, str] = answer.module_advice
        configuration = context.source
        for predictor in configuration.predictors:
            known = configuration.instructions(predictor)
            rules = [rule for rule in rules_in(advice.get(predictor, "")) if rule not in known]
            configuration = configuration.with_instructions(predictor, RULE_SEPARATOR.join([known, *rules]))
        if configuration == context.source:
            return Declined("the advice says nothing new")
        return configuration


@cache
def _signature() -> type[dspy.Signature]:
    """Made once: it takes DSPy some 20 ms, in which the host's event loop would stand still."""
    signature: Any = offer_feedback()
    for name in NOT_ALWAYS_NUMBERS:
        signature = signature.with_updated_fields(name, type_=str)
    return signature


def rules_in(advice: str) -> list[str]:
    """The rules in a piece of advice: its lines, where each is a whole sentence, otherwise all of it as one."""
    lines = [line.strip() for line in advice.splitlines() if line.strip()]
    if all(line.endswith(SENTENCE_ENDS) for line in lines):
        return lines
    return ["\n".join(lines)]


def _inputs(context: StrategyContext) -> dict[str, str]:
    runs = [_runs(bucket) for bucket in context.buckets]
    described: dict[str, Any] = {
        "program_code": program_code(context.program),
        "modules_defn": inspect_modules(context.program),
        "program_inputs": _one_or_all([to_json_value(dict(example.inputs())) for example in context.examples]),
        "oracle_metadata": _one_or_all([to_json_value(dict(example.labels())) for example in context.examples]),
        **{name: _one_or_all([run[name] for run in runs]) for name in runs[0]},
        "module_names": list(context.source.predictors),
    }
    return {name: value if isinstance(value, str) else pretty(value) for name, value in described.items()}


def _runs(bucket: Bucket) -> dict[str, JSON]:
    """The worst run of an example, and its best where that was better."""
    worse, better = told(bucket.worst.trajectory), told(bucket.best.trajectory)
    if bucket.max_to_min_gap <= 0:
        better = withheld(better)
    return {
        **{f"worse_{name}": value for name, value in worse.items()},
        **{f"better_{name}": value for name, value in better.items()},
    }


def _one_or_all(values: Sequence[JSON]) -> JSON:
    return values[0] if len(values) == 1 else list(values)
