"""Many rules merged into fewer words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dspy
import pytest

from simba_actors.programs import Configuration, ConfigurationSpace
from simba_actors.search.buckets import BatchStatistics
from simba_actors.store import Reader
from simba_actors.strategies import Declined, LearnFromFailures, MergeRules, Recombine, StrategyContext
from tests.support.quiz import quiz_script
from tests.support.runs import finish
from tests.support.scripted_lm import Ask, ScriptedLM
from tests.team.test_adaptive_runs import adaptive_config

STUDENT = dspy.Predict("question -> answer")
SPACE = ConfigurationSpace.from_module(STUDENT)
OWN = SPACE.extract(STUDENT).with_instructions("self", "Answer.\n\nBriefly.")
RULES = ("Check the units twice.", "Always check the units.")


class Editor:
    """Merges all rules into the same ones, and remembers what it was asked."""

    def __init__(self, *merged: str) -> None:
        self.merged = list(merged)
        self.asked: list[dict[str, Any]] = []

    async def ask(self, signature: type[dspy.Signature], **inputs: Any) -> dspy.Prediction:
        self.asked.append(inputs)
        return dspy.Prediction(merged_rules=self.merged)


def context(editor: Editor, *rules: str, before: str = "Answer.\n\nBriefly.") -> StrategyContext:
    source = OWN.with_instructions("self", "\n\n".join([before, *rules]))
    statistics = BatchStatistics(0.5, 0.0, 1.0)
    return StrategyContext(source, OWN, lambda: SPACE.apply(source, STUDENT), (), (), statistics, editor)


async def instructions(made: StrategyContext, cap: int = 20) -> str:
    merged = await MergeRules(cap).apply(made)
    assert isinstance(merged, Configuration)
    return merged.instructions("self")


async def test_merged_rules_follow_the_students_own_instructions() -> None:
    assert await instructions(context(Editor("Check units."), *RULES)) == "Answer.\n\nBriefly.\n\nCheck units."


async def test_merged_rules_follow_the_instructions_that_stand_in_place_of_the_students() -> None:
    assert await instructions(context(Editor("Check units."), *RULES, before="Reply.")) == "Reply.\n\nCheck units."


async def test_the_editor_is_shown_all_rules_and_the_instructions_before_them() -> None:
    editor = Editor("Check units.")
    await MergeRules(20).apply(context(editor, *RULES))
    assert editor.asked == [{"module_instructions": "Answer.\n\nBriefly.", "rules": list(RULES)}]


async def test_a_merged_rule_with_empty_lines_stays_one_rule() -> None:
    assert (await instructions(context(Editor("Check\n\nunits."), *RULES))).endswith("Briefly.\n\nCheck\nunits.")


@pytest.mark.parametrize("rules", [RULES[:1], ()], ids=["one", "none"])
def test_fewer_than_two_rules_are_left_alone(rules: tuple[str, ...]) -> None:
    assert isinstance(MergeRules(1).applicable(context(Editor(), *rules)), Declined)


def test_rules_within_the_cap_are_left_alone() -> None:
    assert isinstance(MergeRules(sum(map(len, RULES))).applicable(context(Editor(), *RULES)), Declined)


def test_rules_past_the_cap_are_merged() -> None:
    assert MergeRules(sum(map(len, RULES)) - 1).applicable(context(Editor(), *RULES)) is None


@pytest.mark.parametrize("merged", [(), (" ",), RULES], ids=["none", "blank", "as_long"])
async def test_rules_that_become_no_shorter_are_declined(merged: tuple[str, ...]) -> None:
    assert isinstance(await MergeRules(20).apply(context(Editor(*merged), *RULES)), Declined)


async def test_a_run_merges_the_rules_of_its_best_program(tmp_path: Path) -> None:
    def script(ask: Ask) -> dict[str, Any] | str:
        return {"merged_rules": ["Rule: see."]} if ask.fields == ["merged_rules"] else quiz_script(ask)

    strategies = [LearnFromFailures(), MergeRules(cap=10), Recombine()]
    config = adaptive_config(tmp_path / "simba.db", prompt_model=ScriptedLM(script), strategies=strategies)
    result = await finish(config)
    async with await Reader.open(config.store) as reader:
        assert "merge_rules" in {program.strategy for program in await reader.programs(result.run_id)}
