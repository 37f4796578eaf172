"""A store's file is closed, whether its user or the event loop ends first."""

from __future__ import annotations

import asyncio
import gc
import threading
from pathlib import Path
from typing import Any

import pytest

from simba_actors.store import Owner
from simba_actors.store.reading import Reader
from simba_actors.store.store import Store
from tests.store.ledgers import claimed
from tests.support.connections import left_open, open_connections
from tests.support.waiting import PATIENCE


def wait_for_the_end_of(thread: threading.Thread) -> None:
    thread.join(PATIENCE)
    assert not thread.is_alive()


async def made(path: Path) -> None:
    await (await Store.open(path)).close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    asyncio.run(made(tmp_path / "simba.db"))
    return tmp_path / "simba.db"


def test_a_reader_that_is_dropped_after_its_loop_was_closed_closes_the_file_without_a_word(path: Path) -> None:
    before = open_connections()
    kept: list[Reader] = []

    async def forget() -> None:
        kept.append(await Reader.open(path))

    asyncio.run(forget())
    thread = kept[0]._db._thread
    kept.clear()
    gc.collect()
    wait_for_the_end_of(thread)
    assert left_open(before) == set()


def test_a_loop_that_is_closed_while_the_file_is_read_leaves_no_thread_behind(path: Path) -> None:
    started, go_on = threading.Event(), threading.Event()
    kept: list[Reader] = []

    def work() -> None:
        started.set()
        go_on.wait(PATIENCE)

    async def leave() -> None:
        reader = await Reader.open(path)
        kept.append(reader)
        reading: Any = asyncio.ensure_future(reader._db.run_in_thread(work))
        await asyncio.to_thread(started.wait, PATIENCE)
        reading.cancel()

    asyncio.run(leave())
    go_on.set()
    thread = kept[0]._db._thread
    kept.clear()
    gc.collect()
    wait_for_the_end_of(thread)


@pytest.mark.parametrize("turns", range(4))
async def test_a_close_that_is_cancelled_closes_the_file(turns: int, tmp_path: Path) -> None:
    before = open_connections()
    store = await claimed(tmp_path / "simba.db", Owner.this_process())
    closing = asyncio.ensure_future(store.close())
    for _ in range(turns):
        await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing], timeout=PATIENCE)
    if turns == 0:  # It never began.
        store.abandon()
    assert left_open(before) == set()
