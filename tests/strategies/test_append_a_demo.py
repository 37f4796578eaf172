"""Demos from the best trajectory of a bucket."""

from __future__ import annotations

from typing import Any

import dspy

from simba_actors.programs import Configuration, ConfigurationSpace
from simba_actors.search.buckets import BatchStatistics, Sample, make_bucket
from simba_actors.search.rollout import Outcome, Rollout, RolloutKey, TraceStep, Trajectory
from simba_actors.strategies import AppendADemo, Declined, StrategyContext

STEP = TraceStep("self", {"question": "Which colour is the sky?"}, {"answer": "blue"})


def context(*trajectories: Trajectory) -> StrategyContext:
    student, prompt_model = dspy.Predict("question -> answer"), None
    own = ConfigurationSpace.from_module(student).extract(student)
    rollouts = [Rollout(RolloutKey(0, "sample", n), 0, 0) for n in range(len(trajectories))]
    bucket = make_bucket(0, [Sample(*pair) for pair in zip(rollouts, trajectories, strict=True)])
    unused: Any = prompt_model
    return StrategyContext(own, own, lambda: student, (bucket,), (), BatchStatistics(0.5, 0.0, 1.0), unused)


def scored(score: float, **changes: Any) -> Trajectory:
    return Trajectory(Outcome.SCORED, score, {"answer": "blue"}, (STEP,), **changes)


async def test_the_best_trajectory_becomes_a_demo() -> None:
    made = await AppendADemo().apply(context(scored(1.0), scored(0.0)))
    assert isinstance(made, Configuration)
    assert made.demos("self") == ({"augmented": True, "question": "Which colour is the sky?", "answer": "blue"},)


async def test_a_long_input_is_cut_and_marked() -> None:
    made = await AppendADemo(demo_input_field_maxlen=5).apply(context(scored(1.0)))
    assert isinstance(made, Configuration)
    assert str(made.demos("self")[0]["question"]).startswith("Which\n\t\t... <TRUNCATED")


async def test_an_output_beyond_the_limit_makes_no_demo() -> None:
    declined = await AppendADemo(longest_output=3).apply(context(scored(1.0)))
    assert isinstance(declined, Declined)
    assert "an output of 4 characters" in declined.reason


def test_a_trajectory_with_a_reply_that_was_cut_off_makes_no_demo() -> None:
    declined = AppendADemo().applicable(context(scored(1.0, cut_off=True), scored(0.0)))
    assert isinstance(declined, Declined)
    assert "max_tokens" in declined.reason


def test_a_score_no_better_than_most_makes_no_demo() -> None:
    assert isinstance(AppendADemo().applicable(context(scored(0.0))), Declined)
