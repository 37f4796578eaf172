"""Child processes for runs that a test kills."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
from collections.abc import Callable, Coroutine
from multiprocessing.process import BaseProcess
from typing import Any

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["tests.support.runs", "tests.support.openai_server"])


def start_child(work: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> BaseProcess:
    """Return a new process that runs `work(*args)` in an event loop."""
    return start_process(_run_in_loop, work, *args)


def start_process(work: Callable[..., None], *args: Any) -> BaseProcess:
    """Return a new process that runs `work(*args)`. It is forked from a server that has imported what it needs."""
    child = _forks.Process(target=_run, args=[work, *args])
    child.start()
    return child


def _run(work: Callable[..., None], *args: Any) -> None:
    # Background jobs of a shell ignore Ctrl-C, and their children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    work(*args)


def _run_in_loop(work: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
    asyncio.run(work(*args))
