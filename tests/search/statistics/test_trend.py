"""The slope of a series, and its interval."""

from __future__ import annotations

import numpy as np
import pytest

from simba_actors.search.statistics.trend import MOST_POINTS, trend_of


def test_a_rise_that_noise_can_not_hide_is_an_improvement() -> None:
    noise = np.random.default_rng(0).normal(0, 0.02, 12)
    trend = trend_of([0.3 + 0.02 * n + noise[n] for n in range(12)])
    assert trend is not None
    assert trend.direction == "improving"
    assert trend.low < 0.02 < trend.high


def test_a_fall_is_falling() -> None:
    trend = trend_of([0.9, 0.8, 0.7, 0.6, 0.5])
    assert trend is not None
    assert (trend.direction, trend.slope) == ("falling", pytest.approx(-0.1))


def test_one_lucky_step_makes_no_trend() -> None:
    trend = trend_of([0.5, 0.52, 0.49, 0.51, 0.5, 0.48, 1.0])
    assert trend is not None
    assert trend.direction == "flat"


def test_a_series_that_does_not_change_is_flat() -> None:
    trend = trend_of([0.5] * 6)
    assert trend is not None
    assert (trend.direction, trend.low, trend.high) == ("flat", 0.0, 0.0)


@pytest.mark.parametrize("count", range(5))
def test_too_few_steps_have_no_trend(count: int) -> None:
    assert trend_of([float(n) for n in range(count)]) is None


@pytest.mark.parametrize("count", [5, 8, 24, MOST_POINTS + 1, 3 * MOST_POINTS + 7])
def test_the_interval_holds_the_true_slope_as_often_as_it_says(count: int) -> None:
    draws = np.random.default_rng(1)
    trends = [trend_of([0.1 * n + draws.standard_t(3) for n in range(count)]) for _ in range(600)]
    assert np.mean([trend.low <= 0.1 <= trend.high for trend in trends if trend is not None]) > 0.93


@pytest.mark.parametrize("count", [MOST_POINTS, MOST_POINTS + 1, 5_000])
def test_a_long_series_has_the_slope_of_its_steps(count: int) -> None:
    trend = trend_of([0.1 * n for n in range(count)])
    assert trend is not None
    assert trend.slope == pytest.approx(0.1)
