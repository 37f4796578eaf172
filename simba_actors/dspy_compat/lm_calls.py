"""Routing of LM calls: a hook that runs before each, however a student or a metric has reached the LM."""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

import dspy
from dspy.clients import _deprecation


def route_lm_calls(route: Callable[[Any], Any]) -> Callable[[], None]:
    """Have each LM call of this process made on `route(lm)` instead of `lm`. Return what undoes that.

        undo = route_lm_calls(lambda lm: other if lm is mine else lm)

    A student may call an LM that is global, made on the spot, or an adapter's own; a metric may call a judge. A wrapper
    can't be put around an LM that only the student's code knows, and DSPy's callbacks are of no help: DSPy swallows
    what they raise and does not wait for them, so they could not keep a budget or pause. Therefore `dspy.BaseLM` itself
    is changed, by the first route, and restored when the last one is undone.

    `route` is called with every LM, and returns the same one for all but those. It must be quick. LMs whose class has a
    `__call__` or an `acall` of its own are not asked about.
    """
    return _routing.add(route)


class _Routing:
    """The routes of this process, and the methods of `dspy.BaseLM` that ask them."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._routes: dict[int, Callable[[Any], Any]] = {}
        self._replaced: dict[str, tuple[Any, Any]] = {}
        """The method in our place and the one before, by name."""
        self._lock = threading.RLock()  # The garbage collector may undo a route while this thread adds one.

    def add(self, route: Callable[[Any], Any]) -> Callable[[], None]:
        number = next(self._numbers)
        with self._lock:
            if not self._replaced:
                self._install()
            self._routes[number] = route
        return functools.partial(self._remove, number)

    def _remove(self, number: int) -> None:
        with self._lock:
            if self._routes.pop(number, None) is not None and not self._routes:
                self._uninstall()

    def _install(self) -> None:
        base: Any = dspy.BaseLM
        call, acall = base.__call__, base.acall

        @functools.wraps(call)
        def routed_call(lm: Any, *args: Any, **kwargs: Any) -> Any:
            other = self._routed(lm, "__call__")
            if other is lm:
                return call(lm, *args, **kwargs)
            with _from_the_same_adapter(lm, other):
                return other(*args, **kwargs)

        @functools.wraps(acall)
        async def routed_acall(lm: Any, *args: Any, **kwargs: Any) -> Any:
            other = self._routed(lm, "acall")
            if other is lm:
                return await acall(lm, *args, **kwargs)
            with _from_the_same_adapter(lm, other):
                return await other.acall(*args, **kwargs)

        self._replaced = {"__call__": (routed_call, call), "acall": (routed_acall, acall)}
        base.__call__, base.acall = routed_call, routed_acall

    def _uninstall(self) -> None:
        """Put the methods back, unless somebody else has wrapped ours: without a route these do nothing."""
        base: Any = dspy.BaseLM
        for name, (ours, before) in self._replaced.items():
            if vars(base).get(name) is ours:
                setattr(base, name, before)
        self._replaced = {}

    def _routed(self, lm: Any, method: str) -> Any:
        if not self._routes or not _is_base_lms(cast("type[Any]", type(lm)), method):
            return lm
        for route in list(self._routes.values()):
            other = route(lm)
            if other is not lm:
                return other
        return lm


_routing = _Routing()


@functools.lru_cache(maxsize=256)
def _is_base_lms(cls: type[Any], method: str) -> bool:
    """Return whether a class leaves `method` to `dspy.BaseLM`."""
    return next(ancestor for ancestor in cls.__mro__ if method in vars(ancestor)) is dspy.BaseLM


@contextmanager
def _from_the_same_adapter(lm: Any, other: Any) -> Generator[None]:
    """Pass DSPy's mark of an adapter's call from `lm` to `other`. Without it DSPy warns of messages in dicts."""
    mark: ContextVar[Any] = _deprecation._adapter_call  # pyright: ignore[reportPrivateUsage]
    origin = mark.get()
    if origin is None or origin[0] is not lm:
        yield
        return
    token = mark.set((other, origin[1]))
    try:
        yield
    finally:
        mark.reset(token)
