"""An event loop whose clock skips all waits: hours of timers pass in milliseconds, in order, and reproducibly.

    def pytest_asyncio_loop_factories() -> dict[str, Callable[[], VirtualClockLoop]]:  # in a folder's conftest.py
        return {"virtual_clock": VirtualClockLoop}

Time stands still while there is something to run, and otherwise jumps to the next timer. It does not jump while work
outside the loop is under way: a call in `run_in_executor`, a block of `loop.waiting_outside()`, or a method that
`count_outside_work` wraps. The loop then waits for that work as any loop would.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import pytest


class DeadlockError(Exception):
    """Every task waits, and nothing is left that could wake the loop."""


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """Starts at 0 seconds. Raises DeadlockError where other loops would hang for ever."""

    def __init__(self) -> None:
        self._now = 0.0
        self._outside = 0
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        return self._now

    def jump(self, seconds: float | None) -> None:
        if seconds is None:
            raise DeadlockError("every task waits, and there is no timer that could go off")
        self._now += seconds

    @property
    def waits_outside(self) -> bool:
        """Whether work outside the loop is under way."""
        return self._outside > 0

    @contextmanager
    def waiting_outside(self) -> Generator[None]:
        """Stop the clock for the block, which waits for another thread, process or machine."""
        self._outside += 1
        try:
            yield
        finally:
            self._outside -= 1

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        self._outside += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._executor_answered)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        with self.waiting_outside():
            await super().shutdown_default_executor()

    def _executor_answered(self, _: asyncio.Future[Any]) -> None:
        self._outside -= 1


class _JumpingSelector(selectors.DefaultSelector):
    """Reports what is ready, and lets the clock jump instead of waiting."""

    def __init__(self, loop: VirtualClockLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout <= 0:
            return super().select(timeout)
        if self._loop.waits_outside:
            return super().select(None)
        ready = super().select(0)
        if not ready:
            self._loop.jump(timeout)
        return ready


def let_pass(seconds: float, loop: asyncio.AbstractEventLoop) -> None:
    """Put the clock of a loop of any kind forward, so that timers go off that would by then. Any thread may do this.

    What begins afterwards has all of its time, so a test can have one long timeout pass at once and others not at all.
    """
    clock = loop.time
    loop.time = lambda: clock() + seconds
    loop.call_soon_threadsafe(lambda: None)  # It may be waiting for a timer that is due now.


def count_outside_work(monkeypatch: pytest.MonkeyPatch, owner: type, *methods: str) -> None:
    """Stop the clock while one of these async methods of `owner` runs, because it waits for a thread.

    count_outside_work(monkeypatch, aiosqlite.Connection, "_execute", "_connect", "close")
    """
    for name in methods:
        monkeypatch.setattr(owner, name, _counted(getattr(owner, name)))


def _counted(method: Callable[..., Any]) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        loop = asyncio.get_running_loop()
        if not isinstance(loop, VirtualClockLoop):
            return await method(*args, **kwargs)
        with loop.waiting_outside():
            return await method(*args, **kwargs)

    return call
