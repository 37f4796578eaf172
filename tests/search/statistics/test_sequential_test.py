"""A test that may be repeated after every score."""

from __future__ import annotations

import math

import numpy as np
import pytest

from simba_actors.search.statistics.sequential_test import (
    LEAST_SCORES,
    Comparison,
    Sums,
    always_valid,
    compare,
    compare_pairs,
)

ALPHA = 0.05
LOOKS = range(LEAST_SCORES, 1000, 10)


def ever_decided(new: np.ndarray, old: np.ndarray) -> Comparison | None:
    """Return the first conclusion if the test is repeated after each score."""
    sums = [np.cumsum([scores, scores**2], axis=1) for scores in (new, old)]
    for count in LOOKS:
        of_new, of_old = (Sums(count, *map(float, both[:, count - 1])) for both in sums)
        comparison = compare(of_new, of_old, ALPHA)
        if comparison.is_better or comparison.is_worse:
            return comparison
    return None


@pytest.mark.parametrize(("kind", "chance"), [("binary", 0.5), ("binary", 0.9), ("graded", 0.5)])
def test_equal_programs_are_seldom_found_to_differ_however_often_one_looks(kind: str, chance: float) -> None:
    draws = np.random.default_rng(7)
    wrong = 0
    for _ in range(400):
        scores = draws.random((2, LOOKS.stop))
        if kind == "binary":
            scores = (scores < chance).astype(float)
        wrong += ever_decided(*scores) is not None
    assert wrong / 400 <= ALPHA


def test_a_better_program_is_found() -> None:
    draws = np.random.default_rng(7)
    found = 0
    for _ in range(100):
        new, old = (draws.random((2, LOOKS.stop)) < [[0.7], [0.5]]).astype(float)
        comparison = ever_decided(new, old)
        found += comparison is not None and comparison.is_better
    assert found >= 95


def test_a_worse_program_is_found() -> None:
    comparison = compare(Sums.of([0.0, 1.0] * 50), Sums.of([1.0, 1.0, 1.0, 0.0] * 50), ALPHA)
    assert (comparison.is_worse, comparison.is_better) == (True, False)


@pytest.mark.parametrize("exponent", [*range(-165, -155), -100, 17])
def test_scores_of_any_size_can_be_compared(exponent: int) -> None:
    """Likelihoods of long texts are among the smallest floats, and so are the squares of larger ones."""
    scores = [0.0, 10.0**exponent] * LEAST_SCORES
    for comparison in (compare(Sums.of(scores), Sums.of([0.0] * LEAST_SCORES), ALPHA), compare_pairs(scores, ALPHA)):
        assert comparison.low <= comparison.difference <= comparison.high


@pytest.mark.parametrize("exponent", [-300, -170, -161])
def test_programs_are_not_told_apart_by_scores_whose_squares_are_0(exponent: int) -> None:
    scores = [0.0, 10.0**exponent] * LEAST_SCORES
    assert not compare(Sums.of(scores), Sums.of([0.0] * LEAST_SCORES), ALPHA).is_better
    assert not compare_pairs(scores, ALPHA).is_better


def test_an_estimate_of_scores_without_a_variance_decides_nothing() -> None:
    assert not always_valid(0.1, 0.0, 1e-9, ALPHA).is_better


def test_pairs_tell_more_than_two_groups() -> None:
    rows = np.random.default_rng(7).random(60)
    better = rows + 0.02 + 0.01 * np.random.default_rng(8).random(60)
    assert compare_pairs(list(better - rows), ALPHA).is_better
    assert not compare(Sums.of(list(better)), Sums.of(list(rows)), ALPHA).is_better


@pytest.mark.parametrize("count", [0, 1, LEAST_SCORES - 1])
def test_a_few_scores_decide_nothing(count: int) -> None:
    comparison = compare(Sums.of([1.0] * count), Sums.of([0.0] * 500), ALPHA)
    assert not comparison.is_better
    assert not compare_pairs([1.0] * count, ALPHA).is_better


def test_scores_without_any_spread_decide_at_once_if_they_differ() -> None:
    same, less = Sums.of([1.0] * LEAST_SCORES), Sums.of([0.0] * LEAST_SCORES)
    assert compare(same, less, ALPHA).is_better
    equal = compare(same, same, ALPHA)
    assert (equal.is_better, equal.is_worse) == (False, False)


def test_scores_that_overflow_decide_nothing() -> None:
    beyond, less = Sums(LEAST_SCORES, 1e200, math.inf), Sums.of([0.0, 1.0] * LEAST_SCORES)
    comparison = compare(beyond, less, ALPHA)
    assert (comparison.is_better, comparison.is_worse) == (False, False)


def test_an_interval_narrows_as_scores_come_in() -> None:
    widths = [
        (found := compare(Sums.of([0.0, 1.0] * n), Sums.of([0.0, 1.0] * n), ALPHA)).high - found.low
        for n in (20, 100, 500)
    ]
    assert widths == sorted(widths, reverse=True)
