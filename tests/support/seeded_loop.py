"""An event loop whose schedule is drawn from a seed: a run can be repeated in many orders, and each is reproducible.

    use_one_thread(monkeypatch)
    findings = run_seeded(7, main())

Its clock is virtual. Work for other threads runs in the loop's own thread, and its result arrives in a later iteration.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import aiosqlite.core
import pytest

from simba_actors.runtime.threads import Threads
from tests.support.virtual_clock import VirtualClockLoop

R = TypeVar("R")


class SeededLoop(VirtualClockLoop):
    """Runs the tasks that are ready, in each iteration, in an order drawn from `seed`."""

    _ready: Any  # asyncio's queue of what runs in the next iteration.

    def __init__(self, seed: int) -> None:
        self._draws = random.Random(seed)
        super().__init__()

    def _run_once(self) -> None:
        places = [place for place, handle in enumerate(self._ready) if _is_of_a_task(handle)]
        handles = [self._ready[place] for place in places]
        self._draws.shuffle(handles)
        for place, handle in zip(places, handles, strict=True):
            self._ready[place] = handle
        super()._run_once()  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        answer = self.create_future()
        try:
            value = func(*args)
        except Exception as error:
            self.call_soon(_fail, answer, error)
        else:
            self.call_soon(_give, answer, value)
        return answer


def run_seeded(seed: int, main: Coroutine[Any, Any, R]) -> R:
    with asyncio.Runner(loop_factory=lambda: SeededLoop(seed)) as runner:
        return runner.run(main)


def use_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run SQLite and blocking code in the loop's thread."""
    monkeypatch.setattr(aiosqlite.core, "SimpleQueue", _AtOnce)
    monkeypatch.setattr(aiosqlite.core, "Thread", _NoThread)
    monkeypatch.setattr("simba_actors.store.connection._work", lambda tx, stopped: None)  # Its thread has no work left.
    monkeypatch.setattr(Threads, "start", lambda _, job: job())


class _AtOnce:
    """A queue that does each job when it is put."""

    @classmethod
    def __class_getitem__(cls, _: Any) -> type[_AtOnce]:
        return cls

    def put_nowait(self, item: tuple[asyncio.Future[Any] | None, Callable[[], Any]]) -> None:
        answer, job = item
        try:
            value = job()
        except Exception as error:
            if answer is not None:
                answer.get_loop().call_soon(_fail, answer, error)
        else:
            if answer is not None:
                answer.get_loop().call_soon(_give, answer, value)


class _NoThread:
    def __init__(self, **_: Any) -> None: ...

    def start(self) -> None: ...


def _is_of_a_task(handle: asyncio.Handle) -> bool:
    callback: Any = handle._callback  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    return isinstance(getattr(callback, "__self__", None), asyncio.Task)


def _give(answer: asyncio.Future[Any], value: Any) -> None:
    if not answer.done():
        answer.set_result(value)


def _fail(answer: asyncio.Future[Any], error: BaseException) -> None:
    if not answer.done():
        answer.set_exception(error)
