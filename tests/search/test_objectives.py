"""Combining several scores into one."""

from __future__ import annotations

from typing import Any

import pytest

from simba_actors.errors import ConfigError
from simba_actors.search.objectives import Pareto, Weighted, pareto_front

BOTH = Pareto(["accuracy", "brevity"])
SCORES = {
    1: {"accuracy": 0.9, "brevity": 0.2},
    2: {"accuracy": 0.8, "brevity": 0.5},
    3: {"accuracy": 0.8, "brevity": 0.4},
    4: {"accuracy": 0.1, "brevity": 0.9},
    5: {"accuracy": 0.1, "brevity": 0.9},
}
RANKING = [(3, 0.60), (2, 0.65), (1, 0.55), (4, 0.5), (5, 0.5)]


def test_weighted_scores_are_a_mean() -> None:
    assert Weighted({"accuracy": 3, "brevity": 1}).combine({"accuracy": 1.0, "brevity": 0.0}) == 0.75


def test_weights_leave_the_ranking_as_it_is() -> None:
    assert Weighted({"accuracy": 1}).choose(RANKING, SCORES) == RANKING


def test_the_front_has_no_program_that_another_one_dominates() -> None:
    assert {program for program, _ in BOTH.choose(RANKING, SCORES)} == {1, 2, 4, 5}


def test_equal_programs_are_both_on_the_front() -> None:
    scores = {1: {"a": 1.0, "b": 0.0}, 2: {"a": 0.0, "b": 1.0}, 3: {"a": 0.5, "b": 0.0}, 4: {"a": 1.0, "b": 0.0}}
    assert pareto_front(scores) == {1, 2, 4}


def test_the_winner_is_the_one_of_the_front_with_the_highest_mean() -> None:
    assert BOTH.choose(RANKING, SCORES)[0] == (2, pytest.approx(0.65))


BAD: dict[str, tuple[Any, str]] = {
    "no_weights": (lambda: Weighted({}), "name at least one score"),
    "weights_that_are_a_list": (lambda: Weighted(["accuracy"]), "pass a dict such as"),  # pyright: ignore[reportArgumentType]
    "a_weight_of_nothing": (lambda: Weighted({"accuracy": 0}), "a weight must be above 0 and finite"),
    "a_negative_weight": (lambda: Weighted({"length": -1}), "grows as it gets better"),
    "a_weight_that_is_no_number": (lambda: Weighted({"accuracy": "much"}), "must be a number"),  # pyright: ignore[reportArgumentType]
    "a_name_that_is_no_field": (lambda: Weighted({"how short": 1}), "'how short' can't be a field"),
    "a_front_of_one": (lambda: Pareto(["accuracy"]), "at least two names"),
    "a_front_of_a_text": (lambda: Pareto("accuracy"), "at least two names"),
    "a_front_that_names_one_twice": (lambda: Pareto(["accuracy", "accuracy"]), "'accuracy' is named twice"),
}


@pytest.mark.parametrize("case", BAD)
def test_refuses_at_construction(case: str) -> None:
    make, message = BAD[case]
    with pytest.raises(ConfigError, match=message):
        make()
