"""Routing of LM calls: a hook that runs before each, however a student or a metric has reached the LM."""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FunctionType
from typing import Any, TypeAlias, cast

import dspy
from dspy.clients import _deprecation

Route: TypeAlias = Callable[[Any], Any]
"""Returns the LM that a call of an LM is made on."""

ForwardRoute: TypeAlias = Callable[[Any, str, Callable[..., Any]], Callable[..., Any] | None]
"""Returns what takes the arguments of an LM's `forward` or `aforward` in its place; None to leave the call as it is."""


def route_lm_calls(route: Route, route_forward: ForwardRoute | None = None) -> Callable[[], None]:
    """Make each LM call of this process on `route(lm)` instead of `lm`. Return a function that undoes that.

        undo = route_lm_calls(lambda lm: other if lm is mine else lm)

    A student may call an LM that is global, made on the spot, or an adapter's own; a metric may call a judge. No
    wrapper can be put around an LM that only the student's code knows. DSPy's callbacks do not help either: DSPy
    swallows their errors and does not wait for them, so they could not keep a budget or pause. Therefore the first
    route changes `dspy.BaseLM` itself, and each class of LMs with its own `__call__` or `acall`. Undoing the last
    route restores them.

    `route` is called with every LM, and returns LMs that it does not route as they are. It must be quick.

    `route_forward` is called for each call of `lm.forward` or `lm.aforward`, with the LM, that name, and the function.
    DSPy makes such calls within the LM's own call, and a student may make one directly.
    """
    return _routing.add(route, route_forward)


class _Routing:
    """The routes of this process, and the methods of `dspy.BaseLM` that ask them."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._routes: dict[int, tuple[Route, ForwardRoute | None]] = {}
        self._replaced: list[tuple[Any, str, Any, Any]] = []
        """Class, name, our method, and the original one or None."""
        self._left: set[Any] = set()
        """Our methods that could not be taken back, since somebody else had wrapped them."""
        self._lock = threading.RLock()  # The garbage collector may undo a route while this thread adds one.

    def add(self, route: Route, route_forward: ForwardRoute | None) -> Callable[[], None]:
        number = next(self._numbers)
        with self._lock:
            # Before the check, since the garbage collector may undo the only other one at any line.
            self._routes[number] = route, route_forward
            if not self._replaced:
                self._install()
        return functools.partial(self._remove, number)

    def _remove(self, number: int) -> None:
        with self._lock:
            if self._routes.pop(number, None) is not None and not self._routes:
                self._uninstall()

    def _install(self) -> None:
        def wrap_new_class(cls: type[dspy.BaseLM], **options: Any) -> None:
            super(dspy.BaseLM, cls).__init_subclass__(**options)
            with self._lock:
                if self._replaced:
                    self._wrap_methods(cls)

        if "__init_subclass__" not in vars(dspy.BaseLM):
            self._replace(dspy.BaseLM, "__init_subclass__", classmethod(wrap_new_class))
        for cls in _with_subclasses(dspy.BaseLM):
            self._wrap_methods(cls)

    def _wrap_methods(self, cls: type[Any]) -> None:
        wrappers = (
            ("__call__", self._wrapped_call),
            ("acall", self._wrapped_acall),
            ("forward", self._wrapped_forward),
            ("aforward", self._wrapped_aforward),
        )
        for name, wrapped in wrappers:
            method = vars(cls).get(name)
            if isinstance(method, FunctionType):
                self._replace(cls, name, wrapped(cls, method))

    def _replace(self, cls: type[Any], name: str, ours: Any) -> None:
        before = cast("Any", vars(cls).get(name))
        if before in self._left:  # Whoever had wrapped it is gone. A second one of ours would ask the routes again.
            ours, before = before, before.__wrapped__
        self._replaced.append((cls, name, ours, before))
        setattr(cls, name, ours)

    def _wrapped_call(self, cls: type[Any], call: Any) -> Any:
        @functools.wraps(call)
        def routed_call(lm: Any, *args: Any, **kwargs: Any) -> Any:
            other = self._routed(lm, cls, "__call__")
            if other is lm:
                return call(lm, *args, **kwargs)
            with _from_the_same_adapter(lm, other):
                return other(*args, **kwargs)

        return routed_call

    def _wrapped_acall(self, cls: type[Any], acall: Any) -> Any:
        @functools.wraps(acall)
        async def routed_acall(lm: Any, *args: Any, **kwargs: Any) -> Any:
            other = self._routed(lm, cls, "acall")
            if other is lm:
                return await acall(lm, *args, **kwargs)
            with _from_the_same_adapter(lm, other):
                return await other.acall(*args, **kwargs)

        return routed_acall

    def _wrapped_forward(self, cls: type[Any], forward: Any) -> Any:
        @functools.wraps(forward)
        def routed_forward(lm: Any, *args: Any, **kwargs: Any) -> Any:
            return self._routed_forward(lm, cls, "forward", forward)(*args, **kwargs)

        return routed_forward

    def _wrapped_aforward(self, cls: type[Any], aforward: Any) -> Any:
        @functools.wraps(aforward)
        async def routed_aforward(lm: Any, *args: Any, **kwargs: Any) -> Any:
            return await self._routed_forward(lm, cls, "aforward", aforward)(*args, **kwargs)

        return routed_aforward

    def _uninstall(self) -> None:
        """Restore the methods, unless somebody else has wrapped ours, which do nothing without a route."""
        for cls, name, ours, before in self._replaced:
            if vars(cls).get(name) is not ours:
                self._left.add(ours)
                continue
            if before is None:
                delattr(cls, name)
            else:
                setattr(cls, name, before)
        self._replaced = []

    def _routed(self, lm: Any, cls: type[Any], method: str) -> Any:
        """Return the LM to call. `cls` is the class whose method runs."""
        if not self._routes or _defines(cast("type[Any]", type(lm)), method) is not cls:
            return lm  # The method of a subclass has asked already.
        for route, _ in list(self._routes.values()):
            other = route(lm)
            if other is not lm:
                return other
        return lm

    def _routed_forward(self, lm: Any, cls: type[Any], name: str, method: Any) -> Callable[..., Any]:
        """Return what to call in place of `method`, which `cls` has as `name`."""
        if self._routes and _defines(cast("type[Any]", type(lm)), name) is cls:
            for _, route_forward in list(self._routes.values()):
                other = None if route_forward is None else route_forward(lm, name, method)
                if other is not None:
                    return other
        return functools.partial(method, lm)


_routing = _Routing()


def _with_subclasses(cls: type[Any]) -> set[type[Any]]:
    found, ahead = {cls}, [cls]
    while ahead:
        new = set(type.__subclasses__(ahead.pop())) - found
        found |= new
        ahead.extend(new)
    return found


@functools.lru_cache(maxsize=256)
def _defines(cls: type[Any], method: str) -> type[Any]:
    """Return the class whose `method` an object of `cls` has."""
    return next(ancestor for ancestor in cls.__mro__ if method in vars(ancestor))


@contextmanager
def _from_the_same_adapter(lm: Any, other: Any) -> Generator[None]:
    """Pass DSPy's mark of an adapter's call from `lm` to `other`. Without it DSPy warns about messages in dicts."""
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
