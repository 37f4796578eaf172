"""Live requests go before an optimization's where they share an endpoint: people do not wait for an optimizer."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any, cast

import anyio
import dspy

from simba_actors.lm.endpoint import Priority, Slot
from simba_actors.lm.endpoints_in_use import any_in_use, in_use_elsewhere, in_use_here
from simba_actors.lm.failures import Blame, blame
from simba_actors.lm.governed_lm import endpoint_name, is_governed

REFUSED_SECONDS = 1.0
"""How long a refusal counts that does not say so itself."""


class _Preceding:
    """Mixed into an LM's class: its calls take a place at the endpoint first, before all that an optimization has
    waiting there. Where no optimization calls the endpoint, they are the LM's own calls and nothing else."""

    async def acall(self, prompt: Any = None, **kwargs: Any) -> Any:
        lm = cast("Any", super())
        endpoint = in_use_here(endpoint_name(self))
        if endpoint is None:
            return await lm.acall(prompt, **kwargs)
        slot = await endpoint.enter(Priority.LIVE, anyio.sleep)
        with _told(slot):
            return await lm.acall(prompt, **kwargs)

    def __call__(self, prompt: Any = None, **kwargs: Any) -> Any:
        lm = cast("Any", super())
        found = None if _on_a_loop() else in_use_elsewhere(endpoint_name(self))
        if found is None:
            return lm.__call__(prompt, **kwargs)
        loop, endpoint = found
        slot = asyncio.run_coroutine_threadsafe(endpoint.enter(Priority.LIVE, anyio.sleep), loop).result()
        with _told(slot, loop):
            return lm.__call__(prompt, **kwargs)


class _PrecedingAdapter:
    """Mixed into an adapter's class: predictors hand it the LM that they call, their own or that of the settings."""

    def __call__(self, lm: Any, *args: Any, **kwargs: Any) -> Any:
        adapter = cast("Any", super())
        return adapter.__call__(_preceding(lm), *args, **kwargs)

    async def acall(self, lm: Any, *args: Any, **kwargs: Any) -> Any:
        adapter = cast("Any", super())
        return await adapter.acall(_preceding(lm), *args, **kwargs)


def going_first(now: Mapping[str, Any]) -> dict[str, Any]:
    """Under these settings LM calls go first: those of predictors, and those of the LM in `now`, DSPy's settings.

    Empty where no optimization calls anything.
    """
    if not any_in_use():
        return {}
    return {"lm": _preceding(now["lm"]), "adapter": _twin(now["adapter"] or dspy.ChatAdapter(), _PrecedingAdapter)}


def _preceding(lm: Any) -> Any:
    return _twin(lm, _Preceding) if _is_to_precede(cast("type[Any]", type(lm))) else lm


@cache
def _is_to_precede(cls: type[Any]) -> bool:
    return issubclass(cls, dspy.BaseLM) and not is_governed(cls)


def _twin(of: Any, mixin: type[Any]) -> Any:
    """`of` with its own class, state and history, and what is mixed in. Itself is not touched."""
    twin = object.__new__(_mixed(mixin, cast("type[Any]", type(of))))
    twin.__dict__ = of.__dict__
    return twin


@cache
def _mixed(mixin: type[Any], cls: type[Any]) -> type[Any]:
    if issubclass(cls, mixin):
        return cls
    mixed = type(cls.__name__, (mixin, cls), {"__module__": cls.__module__, "__qualname__": cls.__qualname__})
    for inherited in {"format", "parse"} & set(vars(mixed)):
        delattr(mixed, inherited)  # DSPy has each subclass call an adapter's callbacks, once more than its base does.
    return mixed


@contextmanager
def _told(slot: Slot, loop: asyncio.AbstractEventLoop | None = None) -> Generator[None]:
    """Gives up the slot with what became of the call; on `loop` where that is another thread's."""
    give_up: Any = slot.leave
    try:
        yield
        give_up = slot.answered
    except Exception as error:
        give_up = _consequence(slot, error)
        raise
    finally:
        if loop is None:
            give_up()
        elif not loop.is_closed():
            loop.call_soon_threadsafe(give_up)


def _consequence(slot: Slot, error: Exception) -> Any:
    match blame(error):
        case None:
            return slot.leave
        case Blame.PROGRAM:
            return slot.answered
        case Blame.CROWDED:
            delay = getattr(error, "retry_after", None) or REFUSED_SECONDS
            return lambda: slot.refused(delay)
        case Blame.TRANSIENT | Blame.PERSISTENT:
            return slot.failed


def _on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
