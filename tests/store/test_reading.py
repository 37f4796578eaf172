"""What a run reads of its rollouts."""

from __future__ import annotations

from pathlib import Path

from simba_actors.search.progress import StepProgress
from simba_actors.search.quality import Quality
from simba_actors.search.rollout import JSON, Rollout, RolloutKey, Usage
from simba_actors.store import Owner
from simba_actors.store.queries import run_queries
from simba_actors.store.records import CloseStep, OpenStep
from tests.store.ledgers import claimed, result, step


async def test_the_buckets_of_some_examples_are_read_without_samples_that_have_no_result(tmp_path: Path) -> None:
    owner = Owner.this_process()
    store = await claimed(tmp_path / "simba.db", owner)
    planned = [Rollout(RolloutKey(0, "sample", position), 0, position % 3) for position in range(9)]
    ended = [result(rollout, rollout.key.position / 10) for rollout in planned[:8] if rollout.example != 1]
    await store.commit("run", owner, [OpenStep(0, {}, tuple(planned)), *ended])
    buckets = await store.read.buckets("run", 0, [1, 2])
    await store.close()
    assert {example: [sample.rollout for sample in of.samples] for example, of in buckets.items()} == {
        2: [planned[5], planned[2]]
    }


async def test_progress_is_that_of_the_last_closed_step_that_has_any(tmp_path: Path) -> None:
    owner = Owner.this_process()
    store = await claimed(tmp_path / "simba.db", owner)
    await store.commit("run", owner, [step(0), step(1), step(2), step(3)])
    before = await store.read.last_progress("run")
    found: dict[str, JSON] = {"sampled": 0.5, "bucket_floors": [0.0], "usage": [3, 30, 10, None], "seconds": 2.0}
    for number, progress in enumerate([found, {**found, "sampled": 0.7}, None]):  # An old version stored none.
        await store.commit("run", owner, [CloseStep(number, {"best": [1, 0.6, 0.5, 0.7]}, progress)])
    last = await store.read.last_progress("run")
    await store.close()
    assert before is None
    assert last == StepProgress(2, Quality(1, 0.6, 0.5, 0.7), 0.7, (0.0,), Usage(3, 30, 10, None), 2.0)


async def test_a_summary_counts_open_and_closed_steps(tmp_path: Path) -> None:
    owner = Owner.this_process()
    store = await claimed(tmp_path / "simba.db", owner)
    counts: list[tuple[int, int]] = []
    for writes in ([], [step(0), step(1), step(2)], [CloseStep(0, {}), CloseStep(1, {})]):
        await store.commit("run", owner, writes)
        summary = await store.read.ask(run_queries.summary, "run")
        counts.append((summary.steps_opened, summary.steps_closed))
    await store.close()
    assert counts == [(0, 0), (3, 0), (3, 2)]
