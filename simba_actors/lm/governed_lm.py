"""Copies of the user's LMs whose calls go through the governor."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, cast
from urllib.parse import urlsplit

from simba_actors.dspy_compat.reply_cache import has_cached_reply
from simba_actors.dspy_compat.text_calls import acall_of_text, calls_as_dspy_does, is_text_call
from simba_actors.lm.endpoint import Endpoint
from simba_actors.lm.governor import Caller, Governor
from simba_actors.lm.rollout_context import Watch, current_watch
from simba_actors.lm.usage import Meter
from simba_actors.runtime.threads import Threads


@dataclass(frozen=True, slots=True)
class _Ties:
    """What a governed LM is tied to."""

    governor: Governor
    endpoint: Endpoint
    caller: Caller
    threads: Threads
    loop: asyncio.AbstractEventLoop
    has_async_side: bool
    imports_late: bool
    calls_as_dspy_does: bool

    @property
    def calls_in_thread(self) -> bool:
        """Whether async calls run the LM's sync side in a thread.

        Those of a provider do until one is answered: the first imports what the provider needs, and where that is
        LiteLLM it takes seconds.
        """
        return not self.has_async_side or (self.imports_late and not self.endpoint.has_answered)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Ties:
        """The same: students copy themselves, and DSPy's LMs with them."""
        return self


class _Governed:
    """Mixed into a copy's class: the same LM, with calls that wait their turn and are tried again."""

    _ties: _Ties

    async def acall(self, prompt: Any = None, **kwargs: Any) -> Any:
        ties, lm = self._ties, cast("Any", super())
        if asyncio.get_running_loop() is not ties.loop:
            # A student in a thread that runs an event loop of its own: this one is not to be blocked either.
            return await ties.threads.run(partial(self, prompt, **kwargs))
        send: Any = partial(lm.acall, prompt, **kwargs)
        if ties.calls_in_thread:
            send = partial(ties.threads.run, partial(lm.__call__, prompt, **kwargs))
        elif ties.calls_as_dspy_does and is_text_call(self, prompt, kwargs):
            send = partial(acall_of_text, self, prompt, **kwargs)
        if await _cached(self, prompt, kwargs, asynchronous=not ties.calls_in_thread):
            return await send()
        return await ties.governor.call(ties.endpoint, ties.caller, _watch(), send)

    def __call__(self, prompt: Any = None, **kwargs: Any) -> Any:
        ties, lm = self._ties, cast("Any", super())
        send: Any = partial(lm.__call__, prompt, **kwargs)
        if has_cached_reply(self, prompt, kwargs, asynchronous=False):
            return send()
        if _runs_here(ties.loop):
            # A student that blocks the event loop can't wait for a turn that is given on it.
            return ties.governor.call_unasked(ties.endpoint, ties.caller, _watch(), send)
        return ties.governor.call_in_thread(ties.endpoint, ties.caller, _watch(), send, ties.loop)

    def update_history(self, entry: Mapping[str, Any]) -> None:
        """Called by DSPy with what it knows of a call that was answered."""
        if self._ties.caller.on_answer is not None:
            self._ties.caller.on_answer(entry)
        watch = current_watch()
        if watch is not None:
            tokens = watch.meter.report(entry)
            if tokens is not None:
                self._ties.endpoint.used(tokens)
        if watch is None or watch.keeps_history:
            lm: Any = super()
            lm.update_history(entry)


def governed(
    lm: Any, governor: Governor, *, caller: Caller | None = None, threads: Threads | None = None, **changes: Any
) -> Any:
    """A copy of `lm` with `changes`, whose calls go through `governor`. `lm` itself is not touched.

    It is still of the LM's own class, and so are its copies. DSPy's own retries are off in it, so that a call is tried
    again in one place. Where the LM has no async side, async calls run its sync side in a thread. Must be called on the
    governor's event loop.
    """
    copied: Any = lm.copy(**changes)
    governor.secrets.learn(lm)
    copied.num_retries = 0
    endpoint = governor.endpoint(endpoint_name(lm))
    copied._ties = _Ties(
        governor,
        endpoint,
        caller or Caller(),
        threads or Threads(),
        asyncio.get_running_loop(),
        has_async_side(lm),
        isinstance(getattr(lm, "_engine_spec", None), str),
        calls_as_dspy_does(lm),
    )
    kind: type[Any] = copied.__class__
    copied.__class__ = _governed_class(kind)
    return copied


@cache
def _governed_class(cls: type[Any]) -> type[Any]:
    if issubclass(cls, _Governed):
        return cls
    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
    return type(cls.__name__, (_Governed, cls), names)


def _watch() -> Watch:
    return current_watch() or Watch(Meter())


def _runs_here(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


async def _cached(lm: Any, prompt: Any, kwargs: Mapping[str, Any], *, asynchronous: bool) -> bool:
    if not kwargs.get("cache", lm.cache):
        return False
    return await asyncio.to_thread(has_cached_reply, lm, prompt, kwargs, asynchronous=asynchronous)


def endpoint_name(lm: Any) -> str:
    """Model and host, without anything that an address may hold besides."""
    base = lm.kwargs.get("api_base") or lm.kwargs.get("base_url")
    if not base:
        return str(lm.model)
    address = urlsplit(str(base))
    return f"{lm.model} at {address.hostname}{f':{address.port}' if address.port else ''}"


def has_async_side(lm: Any) -> bool:
    """Whether `lm.acall` does what `lm(…)` does.

    It does not where a class overrides only the sync method of a pair, nor where an engine was given without its async
    counterpart.
    """
    engine: Any = getattr(lm, "_engine_spec", "auto")
    if not isinstance(engine, str) and lm._async_engine_spec is None:
        return False
    cls = cast("type[Any]", type(lm))
    pairs = (("__call__", "acall"), ("forward", "aforward"))
    return all(_depth(cls, sync) >= _depth(cls, asynchronous) for sync, asynchronous in pairs)


def _depth(cls: type[Any], method: str) -> int:
    """How far up the class's ancestry a method is defined."""
    return next(depth for depth, ancestor in enumerate(cls.__mro__) if method in vars(ancestor))
