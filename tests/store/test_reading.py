"""What a run reads of its rollouts."""

from __future__ import annotations

from pathlib import Path

from simba_actors.search.rollout import Rollout, RolloutKey
from simba_actors.store import Owner
from simba_actors.store.records import OpenStep
from tests.store.ledgers import claimed, result


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
