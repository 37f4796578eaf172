"""Being asked before an LM is called, whichever way a student or a metric has reached it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

import dspy
from dspy.clients import _deprecation

ROUTED = "_simba_actors_route"


def route_lm_calls(route: Callable[[Any], Any]) -> None:
    """Have each LM call made on `route(lm)` instead of `lm`, in the whole process and from now on.

    A student may call an LM that is global, made on the spot, or an adapter's own; a metric may call a judge. DSPy
    tells its callbacks of such calls, but swallows what they raise and does not wait for them, so they could not keep a
    budget or pause. `route` is called with every LM, and returns the same one for all but those. It must be quick. LMs
    whose class has a `__call__` or an `acall` of its own are not asked about.
    """
    base: Any = dspy.BaseLM
    if getattr(base.__call__, ROUTED, None) is route:
        return
    call, acall = base.__call__, base.acall

    @functools.wraps(call)
    def routed_call(self: Any, *args: Any, **kwargs: Any) -> Any:
        lm = route(self) if _is_base_lms(cast("type[Any]", type(self)), "__call__") else self
        if lm is self:
            return call(self, *args, **kwargs)
        with _from_the_same_adapter(self, lm):
            return lm(*args, **kwargs)

    @functools.wraps(acall)
    async def routed_acall(self: Any, *args: Any, **kwargs: Any) -> Any:
        lm = route(self) if _is_base_lms(cast("type[Any]", type(self)), "acall") else self
        if lm is self:
            return await acall(self, *args, **kwargs)
        with _from_the_same_adapter(self, lm):
            return await lm.acall(*args, **kwargs)

    setattr(routed_call, ROUTED, route)
    base.__call__, base.acall = routed_call, routed_acall


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
