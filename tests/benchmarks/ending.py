"""What is saved and lost when a run ends by itself, and how often its winner is worse than the student.

    python -m tests.benchmarks.ending              # ten runs in each of seven worlds, with 500 and with 1,660 rollouts
    python -m tests.benchmarks.ending --runs 100 --sizes 500 --only trap

Runs are simulated without an LM: the true effect of each new part, in log-odds, is drawn, and scores are drawn from the
sum of a program's parts. Each run is made twice, with all of its rollouts and with the default of `stop_when`.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Sequence

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from simba_actors.search.rollout import STUDENT
from simba_actors.search.stopping import DEFAULT_STOP
from tests.search.adaptive.simulation import Effects, World, run

Draws = np.random.Generator


def nothing(draws: Draws) -> float:
    return 0.0


def some_harm(draws: Draws) -> float:
    """One part in five harms, and none helps."""
    return -0.4 if draws.random() < 0.2 else 0.0


def all_harm(draws: Draws) -> float:
    return float(draws.normal(-0.15, 0.1))


def trap(draws: Draws) -> float:
    """One part in ten helps, and the others harm."""
    return float(draws.normal(0.3, 0.2) if draws.random() < 0.1 else draws.normal(-0.5, 0.3))


def rare(draws: Draws) -> float:
    """One part in twenty helps much."""
    return 0.8 if draws.random() < 0.05 else 0.0


def mixed(draws: Draws) -> float:
    return float(draws.normal(0.05, 0.3))


def strong(draws: Draws) -> float:
    return float(draws.normal(0.2, 0.8))


WORLDS: dict[str, Effects] = {
    "nothing helps": nothing,
    "some harm": some_harm,
    "all harm": all_harm,
    "trap": trap,
    "rare": rare,
    "mixed": mixed,
    "strong": strong,
}


def gain_of(world: World, winner: int) -> float:
    return world.quality(winner) - world.quality(STUDENT)


def row(name: str, rollouts: int, runs: int) -> str:
    whole, stopped, used = list[float](), list[float](), list[float]()
    for seed in range(runs):
        world = World(WORLDS[name], seed)
        whole.append(gain_of(world, run(world, rollouts).winner))
        world = World(WORLDS[name], seed)
        ended = run(world, rollouts, stop_when=DEFAULT_STOP)
        stopped.append(gain_of(world, ended.winner))
        used.append(ended.rollouts / rollouts)
    worse = sum(gain < -1e-9 for gain in (*whole, *stopped))
    return (
        f"{name:<14}{rollouts:>9}{statistics.mean(used):>8.0%}{statistics.mean(whole):>10.3f}"
        f"{statistics.mean(stopped):>10.3f}{worse:>8} of {2 * runs}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--sizes", type=int, nargs="*", default=[500, 1_660])
    parser.add_argument("--only", nargs="*", default=list(WORLDS), choices=list(WORLDS))
    chosen = parser.parse_args(arguments)
    print(f"{'':<14}{'rollouts':>9}{'used':>8}{'gain, all':>10}{'by itself':>10}{'worse':>8}")
    for name in chosen.only:
        for rollouts in chosen.sizes:
            print(row(name, rollouts, chosen.runs), flush=True)


if __name__ == "__main__":
    main()
