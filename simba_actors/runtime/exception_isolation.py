"""Exceptions that mean something to asyncio or the interpreter, where a student, a metric or a strategy raises them.

There they are failures of that code like any other: a sub-task of its own that was cancelled does not cancel the run,
and `sys.exit()` does not end the host. KeyboardInterrupt does, as everywhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

R = TypeVar("R")


async def isolated(work: Awaitable[R]) -> R:
    """Return what `work` returns, or raise what it raises.

    Raises:
        RuntimeError: It raised a CancelledError though nobody cancelled this task, or another BaseException.
    """
    known, task = _cancellations(), _current_task()
    try:
        return await work
    except asyncio.CancelledError as error:
        if _cancellations() > known:
            raise
        raise _stray(error) from error
    except (Exception, KeyboardInterrupt):
        raise
    except GeneratorExit as error:
        if _current_task() is not task:
            raise  # The coroutine is being closed, which no task does with its own.
        raise _stray(error) from error
    except BaseException as error:
        raise _stray(error) from error


def raised_in_thread(error: BaseException) -> BaseException:
    """What a thread's `error` is raised as where its answer is awaited.

    A StopIteration, too, becomes a RuntimeError, as in generators (PEP 479): no future takes it.
    """
    if isinstance(error, KeyboardInterrupt) or (isinstance(error, Exception) and not isinstance(error, StopIteration)):
        return error
    stray = _stray(error)
    stray.__cause__ = error
    return stray


def _stray(error: BaseException) -> RuntimeError:
    try:
        text = repr(error)
    except Exception:  # noqa: BLE001 - an error of the user's may raise anything
        text = type(error).__name__
    return RuntimeError(f"{text} was not caught")


def _cancellations() -> int:
    """How often this task was cancelled."""
    task = _current_task()
    return 0 if task is None else task.cancelling()


def _current_task() -> asyncio.Task[object] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # There is no loop here, as where the garbage collector closes a coroutine.
        return None
