"""How often a step learns new parts."""

from __future__ import annotations

from simba_actors.algorithm.lessons import lessons_of

STRATEGIES = ("append_a_demo", "learn_from_failures", "merge_rules", "recombine")


def test_four_times_the_rollouts_have_twice_the_lessons() -> None:
    small, large = (lessons_of(STRATEGIES, rollouts, predictors=1) for rollouts in (256, 1024))
    assert (small["learn_from_failures"], large["learn_from_failures"]) == (4, 8)


def test_a_small_step_has_a_lesson_of_each_kind() -> None:
    assert lessons_of(STRATEGIES, 8, predictors=2) == {"append_a_demo": 1, "learn_from_failures": 1}


def test_strategies_of_one_kind_share_its_lessons() -> None:
    strategies = ("append_a_demo", "append_a_labeled_demo", "learn_from_failures")
    lessons = lessons_of(strategies, 256, predictors=1)
    assert lessons == {"append_a_demo": 2, "append_a_labeled_demo": 2, "learn_from_failures": 4}
