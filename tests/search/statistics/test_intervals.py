"""Intervals of means."""

from __future__ import annotations

import numpy as np
import pytest

from simba_actors.search.statistics.intervals import mean_interval, wilson


def interval(*scores: float) -> tuple[float, float]:
    return mean_interval(len(scores), sum(scores), sum(score * score for score in scores))


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_scores_that_are_all_the_same_leave_room_for_others(score: float) -> None:
    low, high = interval(*[score] * 5)
    assert high - low > 0.3


def test_an_interval_of_shares_stays_within_0_and_1() -> None:
    low, high = interval(1.0, 1.0, 0.0)
    assert 0 <= low < 2 / 3 < high <= 1


def test_one_score_has_an_interval() -> None:
    assert interval(1.0) == wilson(1.0, 1)


def test_other_scores_have_a_normal_interval() -> None:
    assert interval(10.0, 30.0) == pytest.approx((20 - 1.96 * 10, 20 + 1.96 * 10), rel=1e-3)


@pytest.mark.parametrize("chance", [0.1, 0.5, 0.95])
def test_the_interval_holds_the_true_share_as_often_as_it_says(chance: float) -> None:
    draws = np.random.default_rng(0)
    intervals = [interval(*map(float, draws.random(30) < chance)) for _ in range(500)]
    assert np.mean([low <= chance <= high for low, high in intervals]) > 0.92


def test_equal_scores_beyond_1_have_the_variance_of_the_other_scores() -> None:
    low, high = mean_interval(4, 400.0, 40_000.0, variance_of_all=25.0)
    assert (low + high) / 2 == pytest.approx(100.0)
    assert high - low == pytest.approx(2 * 1.96 * 2.5, abs=0.01)
