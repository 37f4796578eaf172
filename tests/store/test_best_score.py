"""The best score of a run, which decides what a program got wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from simba_actors.store import Owner, Reader
from simba_actors.store.queries.rollout_queries import best_score
from tests.store.ledgers import claimed, result, step

OWNER = Owner.this_process()


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ((), 1.0),
        ((0.0, 1.0, 0.0), 1.0),
        ((0.0, 0.0), 0.0),
        ((0.25, 0.75), 0.75),
        ((1.0, 3.0), 3.0),
        ((-1.0, -2.0), -1.0),
    ],
)
async def test_it_is_the_largest(tmp_path: Path, scores: tuple[float, ...], best: float) -> None:
    store = await claimed(tmp_path / "simba.db", OWNER)
    opened = step(0)
    found = [result(rollout, score) for rollout, score in zip(opened.rollouts, scores, strict=False)]
    await store.commit("run", OWNER, [opened, *found])
    await store.close()
    async with await Reader.open(tmp_path / "simba.db") as reader:
        assert await reader.ask(best_score, "run") == best
