"""A commit is stored completely or not at all."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from simba_actors.errors import StoreFullError
from simba_actors.events import RunPaused
from simba_actors.store import Owner
from simba_actors.store.records import AddProgram, Program, ReserveCalls, SetStatus
from simba_actors.store.store import Store
from tests.store.ledgers import claimed
from tests.support.waiting import PATIENCE

OWNER = Owner.this_process()

LARGE = Program(0, "0" * 64, {"text": "x" * 1_000_000}, (), "student", -1)


async def found(store: Store) -> tuple[Any, ...]:
    read = store.read
    run = await read.run("run")
    return run.status, run.reason, (await read.spending("run")).calls, len(await read.events("run"))


async def test_nothing_of_a_commit_is_stored_if_the_disk_is_too_full_for_it(tmp_path: Path) -> None:
    store = await claimed(tmp_path / "simba.db", OWNER)
    before = await found(store)
    await store._db.execute("PRAGMA max_page_count = 1")  # SQLite raises it to the file's present size.
    with pytest.raises(StoreFullError):
        await store.commit(
            "run", OWNER, [AddProgram(LARGE), ReserveCalls(7), SetStatus("paused", "half")], [RunPaused(reason="half")]
        )
    assert await found(store) == before
    await store.close()


@pytest.mark.parametrize("turns", range(6))
async def test_a_commit_that_is_cancelled_leaves_nothing_half_done(turns: int, tmp_path: Path) -> None:
    store = await claimed(tmp_path / "simba.db", OWNER)
    commit = asyncio.ensure_future(store.commit("run", OWNER, [ReserveCalls(7)], [RunPaused(reason="whole")]))
    for _ in range(turns):
        await asyncio.sleep(0)
    commit.cancel()
    await asyncio.wait([commit], timeout=PATIENCE)
    await store.commit("run", OWNER, [], [])
    _, _, reserved, events = await found(store)
    assert (reserved, events) in [(0, 0), (7, 1)]
    await store.close()
