"""Ask the prompt model what several failed runs can teach, and add each lesson as a rule of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import dspy

from simba_actors.dspy_compat.simba import inspect_modules, offer_feedback
from simba_actors.programs import Configuration, to_json_value
from simba_actors.programs.parts import RULE_SEPARATOR
from simba_actors.search.buckets import Bucket
from simba_actors.search.rollout import JSON
from simba_actors.strategies.contract import Declined, StrategyContext
from simba_actors.strategies.rule_prompt import Prompt, as_prompt, ask_for_advice, program_code, run_fields, withheld

SENTENCE_ENDS = (".", "!", "?")

FIELDS_AS_TEXT = ("worse_reward_value", "better_reward_value", "module_names")
"""Fields of DSPy's signature that are numbers or lists there. Here they are text, which can describe several runs."""


@dataclass(frozen=True, slots=True)
class LearnFromFailures:
    """Advice for each predictor from several examples at once, in the words of `dspy.SIMBA`'s append_a_rule.

    One question about several failures costs as much as a question about one, and its answer depends less on the
    peculiarities of a single example. This is the reflection of GEPA (L. Agrawal et al., "GEPA: reflective prompt
    evolution can outperform reinforcement learning", arXiv 2507.19457, 2025). An example that also went well is shown
    with its better run for contrast; otherwise the better run is withheld. If the prompt does not fit the LM's context
    window, the question is about the first example alone, with its longest texts shortened as far as needed.
    """

    @property
    def name(self) -> str:
        return "learn_from_failures"

    def applicable(self, context: StrategyContext) -> Declined | None:
        return None if context.buckets else Declined("there is no example to learn from")

    async def apply(self, context: StrategyContext) -> Configuration | Declined:
        advice = await ask_for_advice(context.prompt_model, _signature(), _prompts(context))
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
    """Make the signature once: it takes DSPy some 20 ms, which block the event loop."""
    signature: Any = offer_feedback()
    for name in FIELDS_AS_TEXT:
        signature = signature.with_updated_fields(name, type_=str)
    return signature


def rules_in(advice: str) -> list[str]:
    """Return the rules in a piece of advice: its lines if each is a whole sentence, otherwise all of it as one rule."""
    lines = [line.strip() for line in advice.splitlines() if line.strip()]
    if all(line.endswith(SENTENCE_ENDS) for line in lines):
        return lines
    return ["\n".join(lines)]


def _prompts(context: StrategyContext) -> Iterator[Prompt]:
    """Yield the prompt about all examples, then the one about the first example alone."""
    yield _prompt(context, context.buckets, context.examples)
    if len(context.buckets) > 1:
        yield _prompt(context, context.buckets[:1], context.examples[:1])


def _prompt(context: StrategyContext, buckets: Sequence[Bucket], examples: Sequence[dspy.Example]) -> Prompt:
    runs = [_runs(bucket) for bucket in buckets]
    return as_prompt(
        {
            "program_code": program_code(context.program),
            "modules_defn": inspect_modules(context.program),
            "program_inputs": _one_or_all([to_json_value(dict(example.inputs())) for example in examples]),
            "oracle_metadata": _one_or_all([to_json_value(dict(example.labels())) for example in examples]),
            **{name: _one_or_all([run[name] for run in runs]) for name in runs[0]},
            "module_names": list(context.source.predictors),
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
