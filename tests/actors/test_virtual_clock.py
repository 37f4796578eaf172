"""The virtual clock of these tests."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import aiosqlite
import pytest

from tests.support.virtual_clock import DeadlockError, VirtualClockLoop, count_outside_work


def run(main: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        return runner.run(main)


def test_waits_are_skipped_in_the_order_of_their_ends() -> None:
    async def main() -> list[tuple[float, str]]:
        loop, ends = asyncio.get_running_loop(), list[tuple[float, str]]()

        async def wait(seconds: float, name: str) -> None:
            await asyncio.sleep(seconds)
            ends.append((loop.time(), name))

        await asyncio.gather(wait(86_400.0, "day"), wait(0.5, "blink"), wait(3600.0, "hour"))
        return ends

    assert run(main()) == [(0.5, "blink"), (3600.0, "hour"), (86_400.0, "day")]


def test_time_stands_still_while_there_is_something_to_run() -> None:
    async def main() -> float:
        for _ in range(1000):
            await asyncio.sleep(0)
        return asyncio.get_running_loop().time()

    assert run(main()) == 0


def test_no_timer_fires_while_a_thread_works() -> None:
    async def main() -> str:
        loop, may_end = asyncio.get_running_loop(), threading.Event()
        async with asyncio.timeout(1):
            answer = loop.run_in_executor(None, may_end.wait)
            threading.Timer(0.05, may_end.set).start()
            return "in time" if await answer else "never"

    assert run(main()) == "in time"


def test_no_timer_fires_while_sqlite_works(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    count_outside_work(monkeypatch, aiosqlite.Connection, "_execute", "_connect", "close")

    async def rows() -> AsyncIterator[Any]:
        async with aiosqlite.connect(tmp_path / "file.db") as connection, asyncio.timeout(0.001):
            for number in range(50):
                cursor = await connection.execute("SELECT ?", (number,))
                yield await cursor.fetchone()

    async def main() -> int:
        return sum([row[0] async for row in rows()])

    assert run(main()) == sum(range(50))


def test_a_loop_that_would_wait_for_ever_raises() -> None:
    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(DeadlockError):
        run(main())
