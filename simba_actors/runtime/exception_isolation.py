"""Isolation from exceptions of user code that have a meaning for asyncio or the interpreter.

    prediction = await isolated(student.acall(question="…"))

If a student, a metric or a strategy raises one, it is a failure of that code like any other: cancelling a sub-task does
not cancel the run, and `sys.exit()` does not end the host. KeyboardInterrupt still ends the host, and so does
`sys.exit()` in a signal handler, which Python may run in the middle of any code of the main thread.
"""

from __future__ import annotations

import asyncio
import inspect
import traceback
from collections.abc import Awaitable
from types import FrameType
from typing import TypeVar

R = TypeVar("R")


async def isolated(work: Awaitable[R]) -> R:
    """Return what `work` returns, or raise what it raises.

    Raises:
        RuntimeError: `work` raised a CancelledError although this task was not cancelled, or another BaseException.
    """
    known, task = _cancellations(), _current_task()
    try:
        return await work
    except asyncio.CancelledError as error:
        if _cancellations() > known:
            raise
        raise _uncaught(error) from error
    except Exception:
        raise
    except GeneratorExit as error:
        if _current_task() is not task:
            raise  # The coroutine is being closed, which no task does with its own.
        raise _uncaught(error) from error
    except BaseException as error:
        if _ends_the_host(error):
            raise
        raise _uncaught(error) from error


def raised_in_thread(error: BaseException) -> BaseException:
    """Return the exception to raise where the result of a thread that raised `error` is awaited.

    A StopIteration becomes a RuntimeError too, as in generators (PEP 479), since futures can't hold it.
    """
    if _ends_the_host(error) or (isinstance(error, Exception) and not isinstance(error, StopIteration)):
        return error
    uncaught = _uncaught(error)
    uncaught.__cause__ = error
    return uncaught


def raised_by_signal_handler(error: BaseException) -> bool:
    """Return whether a signal handler raised the error, in the middle of unrelated code."""
    return any(_is_signal_handler(frame) for frame, _ in traceback.walk_tb(error.__traceback__))


def _ends_the_host(error: BaseException) -> bool:
    return isinstance(error, KeyboardInterrupt) or (isinstance(error, SystemExit) and raised_by_signal_handler(error))


def _is_signal_handler(frame: FrameType) -> bool:
    """Return whether Python called this function as a signal handler: with the frame that it interrupted."""
    if frame.f_code.co_flags & (inspect.CO_COROUTINE | inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR):
        return False  # Reading the variables of a running coroutine would also keep them alive.
    names, rest, _, values = inspect.getargvalues(frame)
    arguments = [values.get(name) for name in names] + list(values.get(rest, ()) if rest else ())
    return frame.f_back is not None and any(argument is frame.f_back for argument in arguments)


def _uncaught(error: BaseException) -> RuntimeError:
    try:
        text = repr(error)
    except Exception:  # noqa: BLE001 - an error of the user's may raise anything
        text = type(error).__name__
    return RuntimeError(f"{text} was not caught")


def _cancellations() -> int:
    """Return how often this task was cancelled."""
    task = _current_task()
    return 0 if task is None else task.cancelling()


def _current_task() -> asyncio.Task[object] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # There is no loop, for example where the garbage collector closes a coroutine.
        return None
