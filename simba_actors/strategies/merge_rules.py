"""Ask the prompt model to rewrite rules in fewer words once they exceed a cap."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import dspy

from simba_actors.programs import Configuration
from simba_actors.programs.parts import RULE_SEPARATOR, parts_of, text_before_rules
from simba_actors.strategies.contract import Declined, StrategyContext


class MergeAdvice(dspy.Signature):
    """A module of a language program follows its instructions and a list of rules that were added over time.
    Rewrite the rules, as few and as short as possible, so that whoever follows them does the same as before. Merge
    rules that say the same, drop what the instructions already say, keep every concrete detail, and where two rules
    contradict each other, keep what they have in common. Each rule must make sense on its own."""

    module_instructions: str = dspy.InputField(desc="The module's instructions, which stay as they are")
    rules: list[str] = dspy.InputField(desc="The rules as they are now, oldest first")
    merged_rules: list[str] = dspy.OutputField(desc="The rules that take their place")


@dataclass(frozen=True, slots=True)
class MergeRules:
    """Fewer and shorter rules in place of those that have grown too long.

    A long prompt costs tokens with every call, and rules that were written one by one repeat each other. The program
    with the merged rules is evaluated beside the old one, which stays in the pool.
    """

    cap: int = 3_000
    """Maximum number of characters of all rules of a predictor together, some 700 tokens of each prompt. A lower cap
    keeps prompts shorter. Rules are then merged more often, which takes a question each time and may lose advice."""

    @property
    def name(self) -> str:
        return "merge_rules"

    def applicable(self, context: StrategyContext) -> Declined | None:
        if self._overgrown(context):
            return None
        return Declined(f"no predictor has two or more rules of more than {self.cap:,} characters together")

    async def apply(self, context: StrategyContext) -> Configuration | Declined:
        configuration = context.source
        overgrown = await context.in_thread(lambda: self._overgrown(context))
        for predictor, rules in overgrown.items():
            instructions = text_before_rules(context.source, context.student, predictor)
            answer: Any = await context.prompt_model.ask(MergeAdvice, module_instructions=instructions, rules=rules)
            merged = [_one_paragraph(rule) for rule in answer.merged_rules if rule.strip()]
            if merged and _size(merged) < _size(rules):
                text = RULE_SEPARATOR.join([instructions, *merged])
                configuration = configuration.with_instructions(predictor, text)
        return Declined("the merged rules are no shorter") if configuration == context.source else configuration

    def _overgrown(self, context: StrategyContext) -> dict[str, list[str]]:
        """Return the rules of each predictor whose rules exceed the cap."""
        known: defaultdict[str, list[str]] = defaultdict(list)
        for entry in parts_of(context.source, context.student):
            if entry.part.kind == "rule":
                known[entry.part.predictor].append(entry.part.text)
        return {name: rules for name, rules in known.items() if len(rules) > 1 and _size(rules) > self.cap}


def _size(rules: list[str]) -> int:
    return sum(map(len, rules))


def _one_paragraph(rule: str) -> str:
    """Remove empty lines from a rule, since they separate rules."""
    return "\n".join(line for line in rule.strip().splitlines() if line.strip())
