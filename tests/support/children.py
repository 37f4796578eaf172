"""Runs in processes of their own, that can be killed as a machine's owner kills them."""

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
    """A new process that runs `work(*args)` in an event loop."""
    return start_process(_run_in_loop, work, *args)


def start_process(work: Callable[..., None], *args: Any) -> BaseProcess:
    """A new process that runs `work(*args)`; what it needs to import is imported before it is made."""
    child = _forks.Process(target=_run, args=[work, *args])
    child.start()
    return child


def _run(work: Callable[..., None], *args: Any) -> None:
    # A shell has its background jobs ignore Ctrl-C, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    work(*args)


def _run_in_loop(work: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
    asyncio.run(work(*args))
