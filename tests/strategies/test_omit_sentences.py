"""Sentences of the student's own instructions are left out."""

from __future__ import annotations

from pathlib import Path

import dspy
from dspy.signatures import make_signature

from simba_actors import OptimizerConfig
from simba_actors.programs import Configuration, ConfigurationSpace
from simba_actors.search.buckets import BatchStatistics
from simba_actors.strategies import Declined, OmitSentences, StrategyContext
from tests.strategies.test_merge_rules import Editor
from tests.support.quiz import exact, questions

STUDENT = dspy.Predict(make_signature("question -> answer", "Answer. Be kind. Guess if need be."))
SPACE = ConfigurationSpace.from_module(STUDENT)
OWN = SPACE.extract(STUDENT)


def context(instructions: str) -> StrategyContext:
    source = OWN.with_instructions("self", instructions)
    make = lambda: SPACE.apply(source, STUDENT)  # noqa: E731
    return StrategyContext(source, OWN, make, (), (), BatchStatistics(0.5, 0.0, 1.0), Editor())


async def omitted(instructions: str) -> str:
    made = await OmitSentences().apply(context(instructions))
    assert isinstance(made, Configuration)
    return made.instructions("self")


async def test_the_next_sentence_goes_and_rules_stay() -> None:
    assert await omitted("Be kind. Guess if need be.\n\nMind the units.") == "Guess if need be.\n\nMind the units."


async def test_it_declines_once_no_sentence_is_left() -> None:
    assert isinstance(OmitSentences().applicable(context("\n\nMind the units.")), Declined)


async def test_it_declines_where_the_instructions_were_replaced() -> None:
    assert isinstance(OmitSentences().applicable(context("Reply in French.")), Declined)


def names(student: dspy.Module, store: Path) -> list[str]:
    config = OptimizerConfig(student=student, metric=exact, trainset=questions(40), store=store)
    return [strategy.name for strategy in config.chosen_strategies()]


def test_it_is_used_by_default_if_the_student_has_instructions_of_its_own(tmp_path: Path) -> None:
    assert "omit_sentences" in names(STUDENT, tmp_path / "simba.db")


def test_it_is_not_used_if_dspy_wrote_the_instructions(tmp_path: Path) -> None:
    assert "omit_sentences" not in names(dspy.Predict("question -> answer"), tmp_path / "simba.db")
