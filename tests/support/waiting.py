"""Waits with a bound: a test that waits in vain fails and says where, and does not hang."""

from __future__ import annotations

import asyncio
import subprocess
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

T = TypeVar("T")

PATIENCE = 180.0
"""Seconds after which a test fails because what it waits for has not happened."""

PAUSE = 0.005
"""Seconds between two looks at a condition."""


async def until(condition: Callable[[], T | None], *, pause: float = PAUSE) -> T:
    """Wait until a condition holds, and return its value. The event loop runs meanwhile.

    With `pause=0` no time passes on a virtual clock.
    """
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < deadline, f"the condition does not hold after {PATIENCE:g} s"
        await asyncio.sleep(pause)
    return value


def block_until(condition: Callable[[], T | None], *, pause: float = PAUSE, seconds: float = PATIENCE) -> T:
    """Wait until other threads or processes have made a condition hold, and return its value.

    An event loop of this thread is blocked meanwhile.
    """
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"the condition does not hold after {seconds:g} s"
        time.sleep(pause)
    return value


def ended(child: BaseProcess) -> int:
    """Wait until a child process has ended, and return its exit code."""
    child.join(PATIENCE)
    assert child.exitcode is not None, f"process {child.pid} has not ended after {PATIENCE:g} s"
    return child.exitcode


def kill(child: BaseProcess) -> None:
    """Kill a child process if it has not ended, and wait until it has."""
    child.kill()
    ended(child)


@contextmanager
def limited(process: subprocess.Popen[Any], seconds: float = PATIENCE) -> Generator[None]:
    """Kill a process whose output the block reads if the block takes too long, so that its output ends."""
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
