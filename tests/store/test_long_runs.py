"""What displays read of a run with many steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from simba_actors.store import Reader
from simba_actors.store.queries import rollout_queries, run_queries, score_queries
from tests.support.large_store import RUN, Shape, store_large_run

STEPS = 30


@pytest.fixture
async def reader(tmp_path: Path) -> AsyncGenerator[Reader]:
    await store_large_run(tmp_path / "large.db", Shape(STEPS, candidates=2, rows=3, copies=1, examples=10))
    async with await Reader.open(tmp_path / "large.db") as reader:
        yield reader


async def test_scores_of_some_steps_are_those_among_all(reader: Reader) -> None:
    chosen, every = [0, 7, 29, 400], await reader.ask(run_queries.step_scores, RUN)
    assert len(every) == STEPS
    assert await reader.ask(run_queries.step_scores, RUN, chosen) == [every[0], every[7], every[29]]
    assert await reader.ask(run_queries.step_scores, RUN, []) == []


async def test_spending_at_some_steps_is_that_among_all(reader: Reader) -> None:
    chosen, every = [0, 7, 29, 400], await reader.ask(score_queries.spending_by_step, RUN)
    assert len(every) == STEPS
    assert await reader.ask(score_queries.spending_by_step, RUN, chosen) == [every[0], every[7], every[29]]
    assert await reader.ask(score_queries.spending_by_step, RUN, []) == []


@pytest.mark.parametrize(
    ("steps", "chosen"), [(0, []), (1, [0]), (4, [0, 1, 2, 3]), (5, [0, 2, 4]), (8, [0, 2, 4, 6, 7])]
)
def test_steps_are_chosen_evenly_with_the_last(steps: int, chosen: list[int]) -> None:
    assert run_queries.evenly_chosen(steps, 4) == chosen


async def test_keys_of_results_are_read_of_steps_with_more_of_them_than_are_known(reader: Reader) -> None:
    every = await reader.ask(rollout_queries.keys_with_result, RUN, {})
    counts = Counter(key.step for key in every)
    assert len(every) == STEPS * 9
    assert await reader.ask(rollout_queries.keys_with_result, RUN, counts) == []
    counts[3] -= 1
    del counts[8]
    new = await reader.ask(rollout_queries.keys_with_result, RUN, counts)
    assert new == [key for key in every if key.step in (3, 8)]
