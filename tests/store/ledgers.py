"""Small stores to write to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from simba_actors.search.rollout import Outcome, Rollout, RolloutKey, Trajectory, Usage
from simba_actors.store import Owner
from simba_actors.store.records import NewRun, OpenStep, RecordRollout
from simba_actors.store.store import Store

RUN = NewRun("run", {"student": "Predict 1", "trainset": "8 examples", "seed": "0"}, {"seed": 0})


def rollouts(step: int, count: int) -> tuple[Rollout, ...]:
    return tuple(Rollout(RolloutKey(step, "sample", position), 0, position) for position in range(count))


def step(number: int, count: int = 4) -> OpenStep:
    return OpenStep(number, {"batch": list(range(count))}, rollouts(number, count))


def result(rollout: Rollout, score: float = 1.0) -> RecordRollout:
    trajectory = Trajectory(Outcome.SCORED, score, {"answer": "x" * 100}, (), usage=Usage(1, 10, 5, 0.01))
    return RecordRollout(rollout.key, trajectory)


def results(of: Sequence[Rollout]) -> list[RecordRollout]:
    return [result(rollout) for rollout in of]


async def claimed(path: Path, owner: Owner, *, busy_seconds: float = 0.05) -> Store:
    store = await Store.open(path, busy_seconds=busy_seconds)
    await store.claim(RUN, owner)
    return store
