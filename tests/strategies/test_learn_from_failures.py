"""Rules from several failures at a time."""

from __future__ import annotations

import asyncio
from typing import Any

import dspy
import pytest

from simba_actors.programs import Configuration, ConfigurationSpace
from simba_actors.search.buckets import BatchStatistics, Sample, make_bucket, rank_buckets
from simba_actors.search.rollout import Outcome, Rollout, RolloutKey, Trajectory
from simba_actors.strategies import (
    AppendARule,
    Declined,
    LearnFromFailures,
    Recombine,
    RewriteTexts,
    Strategy,
    StrategyContext,
)
from simba_actors.strategies.learn_from_failures import rules_in
from tests.support.quiz import questions
from tests.support.ticker import Ticker


class Adviser:
    """Answers every question with the same advice, and remembers what it was asked."""

    def __init__(self, advice: str) -> None:
        self.advice = advice
        self.asked: list[dict[str, Any]] = []

    async def ask(self, signature: type[dspy.Signature], **inputs: Any) -> dspy.Prediction:
        self.asked.append(inputs)
        return dspy.Prediction(module_advice={"self": self.advice}, new_texts={"self": self.advice})


def samples(row: int, scores: tuple[float, ...]) -> list[Sample]:
    return [
        Sample(Rollout(RolloutKey(0, "sample", n), 0, row), Trajectory(Outcome.SCORED, score, {"answer": "red"}, ()))
        for n, score in enumerate(scores)
    ]


def context(adviser: Adviser, scores: dict[int, tuple[float, ...]], **changes: Any) -> StrategyContext:
    student = dspy.Predict("question -> answer")
    ranked = rank_buckets(list(scores), [(row, score) for row, given in scores.items() for score in given])
    buckets = [make_bucket(known.example, samples(known.example, scores[known.example])) for known in ranked]
    rows = questions(8)
    own = ConfigurationSpace.from_module(student).extract(student)
    settings: dict[str, Any] = {
        "source": own,
        "student": own,
        "make_program": lambda: student,
        "buckets": tuple(buckets),
        "examples": tuple(rows[bucket.example] for bucket in buckets),
        "statistics": BatchStatistics(0.5, 0.0, 1.0),
        "prompt_model": adviser,
    }
    return StrategyContext(**{**settings, **changes})


async def test_all_failures_are_in_one_question() -> None:
    adviser = Adviser("Look twice.")
    await LearnFromFailures().apply(context(adviser, {1: (0.0, 1.0), 2: (0.0, 0.0)}))
    (asked,) = adviser.asked
    assert "ball 1" in asked["program_inputs"]
    assert "ball 2" in asked["program_inputs"]


async def test_the_better_run_of_an_example_that_never_went_well_is_withheld() -> None:
    adviser = Adviser("Look twice.")
    await LearnFromFailures().apply(context(adviser, {2: (0.0, 0.0)}))
    assert adviser.asked[0]["better_reward_value"] == "N/A"


async def test_each_sentence_of_the_advice_becomes_a_rule_of_its_own() -> None:
    configuration = await LearnFromFailures().apply(context(Adviser("Look twice.\nTrust red."), {1: (0.0, 1.0)}))
    assert isinstance(configuration, Configuration)
    assert configuration.instructions("self").endswith("\n\nLook twice.\n\nTrust red.")


async def test_advice_that_is_known_already_makes_no_candidate() -> None:
    first = await LearnFromFailures().apply(context(Adviser("Look twice."), {1: (0.0, 1.0)}))
    again = await LearnFromFailures().apply(context(Adviser("Look twice."), {1: (0.0, 1.0)}, source=first))
    assert again == Declined("the advice says nothing new")


@pytest.mark.parametrize("strategy", [LearnFromFailures(), AppendARule(), RewriteTexts(())], ids=lambda each: each.name)
async def test_the_loop_ticks_while_the_program_for_a_prompt_is_made(strategy: Strategy) -> None:
    ticker = Ticker()

    def slowly() -> dspy.Module:
        ticker.blocks_until_the_loop_has_ticked()
        return dspy.Predict("question -> answer")

    ticking = asyncio.create_task(ticker.run())
    await strategy.apply(context(Adviser("Look twice."), {1: (0.0, 1.0)}, make_program=slowly))
    ticking.cancel()
    assert not ticker.was_held_up


@pytest.mark.parametrize(
    ("advice", "rules"),
    [
        ("Do this.", ["Do this."]),
        ("Do this.\n\nDo that!", ["Do this.", "Do that!"]),
        ("When asked:\n\n- do this\n- do that", ["When asked:\n- do this\n- do that"]),
        ("", []),
    ],
)
def test_lines_that_belong_together_stay_one_rule(advice: str, rules: list[str]) -> None:
    assert [rule for rule in rules_in(advice) if rule] == rules


async def test_recombine_adds_nothing_to_what_the_policy_combined() -> None:
    combined = context(Adviser(""), {1: (0.0,)}, combined=True)
    assert Recombine().applicable(combined) is None
    assert await Recombine().apply(combined) == combined.source


def test_recombine_declines_where_the_policy_combines_nothing() -> None:
    assert isinstance(Recombine().applicable(context(Adviser(""), {1: (0.0,)})), Declined)
