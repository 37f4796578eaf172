"""How often a step applies each strategy, and what the applications learn from."""

from __future__ import annotations

from simba_actors.search.adaptive.strategy_allocation import allocate, assign
from simba_actors.search.buckets import BucketScores, rank_buckets

STRATEGIES = ("append_a_demo", "learn_from_failures", "merge_rules", "recombine")


def test_four_times_the_rollouts_have_twice_the_applications() -> None:
    small, large = (allocate(STRATEGIES, rollouts, predictors=1) for rollouts in (256, 1024))
    assert (small["learn_from_failures"], large["learn_from_failures"]) == (4, 8)


def test_a_small_step_applies_each_kind_of_strategy_once() -> None:
    assert allocate(STRATEGIES, 8, predictors=2) == {"append_a_demo": 1, "learn_from_failures": 1}


def test_strategies_of_one_kind_share_its_applications() -> None:
    strategies = ("append_a_demo", "append_labeled_demos", "learn_from_failures")
    allocation = allocate(strategies, 256, predictors=1)
    assert allocation == {"append_a_demo": 2, "append_labeled_demos": 2, "learn_from_failures": 4}


def bucket(example: int, *scores: float) -> BucketScores:
    return rank_buckets([example], [(example, score) for score in scores])[0]


def test_labels_are_taken_from_the_worst_failure_and_from_other_examples_that_fill_the_prompt() -> None:
    buckets = [bucket(1, 1.0, 0.0), bucket(2, 0.0, 0.0)]
    assigned = assign({"append_labeled_demos": 1, "append_a_demo": 1}, buckets, 1.0, [(7, 8, 9)])
    assert assigned[0] == (["append_labeled_demos", "append_a_demo"], [2, 7, 8])


def test_without_failures_no_strategy_that_needs_trajectories_stands_in_for_labels() -> None:
    assigned = assign({"append_labeled_demos": 1, "append_a_demo": 0}, [bucket(1, 1.0)], 1.0, [(7, 8)])
    assert assigned == [(["append_labeled_demos"], [7, 8])]
