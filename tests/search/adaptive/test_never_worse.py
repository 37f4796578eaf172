"""The winner of whole simulated runs is not worse than the student."""

from __future__ import annotations

from itertools import islice

import numpy as np

from simba_actors.search.rollout import STUDENT
from simba_actors.search.stopping import DEFAULT_STOP
from tests.search.adaptive.simulation import Effects, World, run, winner_in


def harmful(draws: np.random.Generator) -> float:
    return float(draws.normal(-0.15, 0.1))


def mixed(draws: np.random.Generator) -> float:
    return float(draws.normal(0.05, 0.3))


def nothing(draws: np.random.Generator) -> float:
    return 0.0


def gains(effects: Effects, runs: int) -> list[float]:
    """Return how much better than the student the winners of several runs are."""
    worlds = [World(effects, seed) for seed in range(runs)]
    return [world.quality(winner_in(world, 400)) - world.quality(STUDENT) for world in worlds]


def test_runs_in_which_most_changes_harm_end_with_nothing_worse_than_the_student() -> None:
    assert min(gains(harmful, runs=10)) >= 0.0


def test_runs_in_which_some_changes_help_end_with_something_better() -> None:
    assert np.mean(gains(mixed, runs=12)) > 0.1


def test_runs_in_which_nothing_helps_often_end_by_themselves_long_before_their_calls_are_spent() -> None:
    ends = (run(World(nothing, seed), 1_600, stop_when=DEFAULT_STOP).rollouts for seed in range(8))
    early = islice((end for end in ends if end < 1_300), 2)  # No more of these long runs than it takes.
    assert len(list(early)) == 2
