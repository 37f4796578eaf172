"""The winner of whole simulated runs is not worse than the student."""

from __future__ import annotations

import numpy as np

from simba_actors.search.policy import STUDENT
from tests.search.adaptive.simulation import Effects, World, winner_in


def harmful(draws: np.random.Generator) -> float:
    return float(draws.normal(-0.15, 0.1))


def mixed(draws: np.random.Generator) -> float:
    return float(draws.normal(0.05, 0.3))


def gains(effects: Effects, runs: int) -> list[float]:
    """Return how much better than the student the winners of so many runs are."""
    worlds = [World(effects, seed) for seed in range(runs)]
    return [world.quality(winner_in(world, 400)) - world.quality(STUDENT) for world in worlds]


def test_runs_in_which_most_changes_harm_end_with_nothing_worse_than_the_student() -> None:
    assert min(gains(harmful, runs=10)) >= 0.0


def test_runs_in_which_some_changes_help_end_with_something_better() -> None:
    assert np.mean(gains(mixed, runs=12)) > 0.1
