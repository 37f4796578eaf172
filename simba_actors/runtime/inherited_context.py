"""A context variable that reaches threads which code starts without its context.

undo = inherit_in_threads(variable)
variable.set("a value")
ThreadPoolExecutor(1).submit(variable.get).result()  # "a value" rather than the default
"""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any, TypeVar, cast

T = TypeVar("T")


def inherit_in_threads(variable: ContextVar[Any]) -> Callable[[], None]:
    """Give new threads, and the work of thread pools, the value that `variable` has where they are started.

    Return a function that undoes that. Until then, `Thread.start` and `ThreadPoolExecutor.submit` are wrapped, as
    tracing libraries do. The variable's default must be None, which means that there is nothing to hand on.
    """
    return _inheritance.add(variable)


class _Inheritance:
    """The variables that are handed on, and the methods that do so."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._variables: dict[int, ContextVar[Any]] = {}
        self._replaced: list[tuple[Any, str, Any, Any]] = []
        """Class, name, our method, and the one in whose place it is; None if the class had inherited it."""
        self._lock = threading.RLock()  # The garbage collector may undo one while this thread adds another.

    def add(self, variable: ContextVar[Any]) -> Callable[[], None]:
        number = next(self._numbers)
        with self._lock:
            # Before the check, since the garbage collector may undo the only other one at any line.
            self._variables[number] = variable
            if not self._replaced:
                self._replace(threading.Thread, "start", self._wrapped_start(threading.Thread.start))
                self._replace(ThreadPoolExecutor, "submit", self._wrapped_submit(ThreadPoolExecutor.submit))
        return functools.partial(self._remove, number)

    def _remove(self, number: int) -> None:
        with self._lock:
            if self._variables.pop(number, None) is None or self._variables:
                return
            for cls, name, ours, before in self._replaced:
                if vars(cls).get(name) is not ours:
                    continue  # Somebody has wrapped ours, which does nothing from now on.
                if before is None:
                    delattr(cls, name)
                else:
                    setattr(cls, name, before)
            self._replaced = []

    def _replace(self, cls: Any, name: str, ours: Any) -> None:
        methods = cast("dict[str, Any]", vars(cls))
        self._replaced.append((cls, name, ours, methods.get(name)))
        setattr(cls, name, ours)

    def _values(self) -> dict[ContextVar[Any], Any]:
        values = {variable: variable.get(None) for variable in list(self._variables.values())}
        return {variable: value for variable, value in values.items() if value is not None}

    def _wrapped_start(self, start: Callable[[threading.Thread], None]) -> Any:
        @functools.wraps(start)
        def started(thread: threading.Thread) -> None:
            values = self._values()
            if not values:
                return start(thread)
            run = thread.run

            def run_with_values() -> None:
                vars(thread).pop("run", None)  # Else the thread would hold itself.
                _set(values)
                run()

            thread.run = run_with_values
            try:
                start(thread)
            except BaseException:
                vars(thread).pop("run", None)
                raise

        return started

    def _wrapped_submit(self, submit: Callable[..., Any]) -> Any:
        @functools.wraps(submit)
        def submitted(pool: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
            values = self._values()
            if not values:
                return submit(pool, fn, *args, **kwargs)
            before = _set(dict.fromkeys(values))  # A worker that is started now works for others later.
            try:
                return submit(pool, functools.partial(_run_with, values, fn), *args, **kwargs)
            finally:
                _set(before)

        return submitted


_inheritance = _Inheritance()


def _run_with(values: dict[ContextVar[Any], Any], fn: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    before = _set(values)
    try:
        return fn(*args, **kwargs)
    finally:
        _set(before)


def _set(values: dict[ContextVar[Any], Any]) -> dict[ContextVar[Any], Any]:
    """Set variables, and return the values that they had."""
    before = {variable: variable.get(None) for variable in values}
    for variable, value in values.items():
        variable.set(value)
    return before
