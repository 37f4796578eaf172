"""Summaries of a run, kept up to date as it goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from simba_actors.store import Reader
from simba_actors.store.queries import pool_queries, run_queries
from simba_actors.store.queries.pool_queries import MeanScore
from tests.support.runs import finish, small_config


async def test_a_summary_agrees_with_the_rollouts(tmp_path: Path) -> None:
    config = small_config(tmp_path / "simba.db")
    result = await finish(config)
    async with await Reader.open(config.store) as store:
        summary = await store.ask(run_queries.summary, result.run_id)
        scores = await store.scores(result.run_id)
        usage = await Reader.usage(store, result.run_id)
    assert (summary.rollouts_done, summary.usage) == (len(scores), usage)
    assert summary.best is not None
    assert summary.best.score == pytest.approx(result.score)
    assert summary.student is not None
    assert summary.student.score == pytest.approx(
        sum(s.score for s in scores if s.program == 0 and s.key.phase == "final") / 8
    )


def test_no_scores_have_no_estimate() -> None:
    assert MeanScore.of_sums(0, 0.0, 0.0) is None


@pytest.mark.parametrize("policy", ["dspy", "adaptive"])
async def test_the_ranking_has_the_finalists_first_as_the_run_ranked_them(tmp_path: Path, policy: str) -> None:
    config = small_config(tmp_path / "simba.db", policy=policy)
    result = await finish(config)
    async with await Reader.open(config.store) as store:
        entries = {entry.number: entry for entry in await store.ask(pool_queries.pool, result.run_id)}
        ranking = [entries[number] for number in await store.ask(pool_queries.ranking, result.run_id)]
    winner: Any = result.program
    finalists = [entry.number for entry in ranking if entry.rank is not None]
    others = [entry.score for entry in ranking if entry.rank is None and entry.score is not None]
    assert sorted(entry.number for entry in ranking) == list(entries)
    assert (ranking[0].number, ranking[0].score) == (winner.simba_idx, pytest.approx(result.score))
    assert [entry.number for entry in ranking[: len(finalists)]] == finalists
    assert others == sorted(others, reverse=True)
