"""Fixtures of the kernel's tests. They run on a virtual clock, and fail if they leave a task behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TypeAlias

import pytest

from simba_actors.actors import Ref
from tests.actors.servers import Log
from tests.support.virtual_clock import VirtualClockLoop

Keep: TypeAlias = Callable[[Ref], Ref]
Reports: TypeAlias = Callable[[], list[str]]


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], VirtualClockLoop]]:
    return {"virtual_clock": VirtualClockLoop}


@pytest.fixture(autouse=True)
async def no_task_is_left() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    assert asyncio.all_tasks() - before <= {asyncio.current_task()}


@pytest.fixture
async def keep() -> AsyncIterator[Keep]:
    """Return a function that registers a ref, whose process is stopped at the end of the test."""
    kept: list[Ref] = []

    def keep(ref: Ref) -> Ref:
        kept.append(ref)
        return ref

    yield keep
    for ref in reversed(kept):
        if ref.alive:
            await ref.stop()


@pytest.fixture
def log() -> Log:
    """The log that the test's workers write to."""
    return []


@pytest.fixture
def reports(caplog: pytest.LogCaptureFixture) -> Reports:
    """Return a function that returns the kernel's log messages so far."""
    return lambda: [record.getMessage() for record in caplog.records if record.name == "simba_actors.actors"]
