"""Ask the prompt model what several failed runs teach, and add each piece of advice as a rule of its own."""

from __future__ import annotations

from dataclasses import dataclass

from simba_actors.programs import Configuration
from simba_actors.programs.parts import RULE_SEPARATOR
from simba_actors.strategies.contract import Declined, StrategyContext
from simba_actors.strategies.failures_prompt import failure_prompts, failures_signature
from simba_actors.strategies.rule_prompt import ask_for_advice

SENTENCE_ENDS = (".", "!", "?")
"""What each line of a piece of advice must end with for the lines to be rules of their own."""


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
        prompts = await context.in_thread(lambda: failure_prompts(context))
        advice = await ask_for_advice(context.prompt_model, failures_signature(), prompts)
        configuration = context.source
        for predictor in configuration.predictors:
            known = configuration.instructions(predictor)
            rules = [rule for rule in rules_in(advice.get(predictor, "")) if rule not in known]
            if rules:
                configuration = configuration.with_instructions(predictor, RULE_SEPARATOR.join([known, *rules]))
        if configuration == context.source:
            return Declined("the advice says nothing new")
        return configuration


def rules_in(advice: str) -> list[str]:
    """Return the rules in a piece of advice: its lines if each is a whole sentence, otherwise all of it as one rule."""
    lines = [line.strip() for line in advice.splitlines() if line.strip()]
    if all(line.endswith(SENTENCE_ENDS) for line in lines):
        return lines
    return ["\n".join(lines)]
