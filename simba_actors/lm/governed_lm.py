"""Copies of the user's LMs whose calls go through the governor."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, cast
from urllib.parse import urlsplit

from simba_actors.dspy_compat.engines import has_async_side, imports_on_first_call
from simba_actors.dspy_compat.reply_cache import has_cached_reply
from simba_actors.lm.endpoint import Endpoint
from simba_actors.lm.governor import Caller, Governor
from simba_actors.lm.rollout_context import RolloutContext, current_rollout
from simba_actors.lm.usage import Meter, was_cut_off
from simba_actors.runtime.threads import Threads


@dataclass(frozen=True, slots=True)
class _Binding:
    """What a governed LM is tied to."""

    governor: Governor
    endpoint: Endpoint
    caller: Caller
    threads: Threads
    loop: asyncio.AbstractEventLoop
    has_async_side: bool
    imports_late: bool

    @property
    def calls_in_thread(self) -> bool:
        """Whether async calls run the LM's sync side in a thread.

        Those of a provider do until one is answered: the first imports what the provider needs, and where that is
        LiteLLM it takes seconds.
        """
        return not self.has_async_side or (self.imports_late and not self.endpoint.has_answered)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Binding:
        """The same: students copy themselves, and DSPy's LMs with them."""
        return self


class _Governed:
    """Mixed into a copy's class: the same LM, with calls that wait their turn and are tried again."""

    _binding: _Binding

    async def acall(self, prompt: Any = None, **kwargs: Any) -> Any:
        binding, lm = self._binding, cast("Any", super())
        if asyncio.get_running_loop() is not binding.loop:
            # A student in a thread that runs an event loop of its own: this one is not to be blocked either.
            return await binding.threads.run(partial(self, prompt, **kwargs))
        send: Any = partial(lm.acall, prompt, **kwargs)
        if binding.calls_in_thread:
            send = partial(binding.threads.run, partial(lm.__call__, prompt, **kwargs))
        if await _cached(self, prompt, kwargs, asynchronous=not binding.calls_in_thread):
            return await send()
        return await binding.governor.call(binding.endpoint, binding.caller, _rollout(), send)

    def __call__(self, prompt: Any = None, **kwargs: Any) -> Any:
        binding, lm = self._binding, cast("Any", super())
        send: Any = partial(lm.__call__, prompt, **kwargs)
        if has_cached_reply(self, prompt, kwargs, asynchronous=False):
            return send()
        if _runs_here(binding.loop):
            # A student that blocks the event loop can't wait for a turn that is given on it.
            return binding.governor.call_blocking(binding.endpoint, binding.caller, _rollout(), send)
        return binding.governor.call_in_thread(binding.endpoint, binding.caller, _rollout(), send, binding.loop)

    def update_history(self, entry: Mapping[str, Any]) -> None:
        """Called by DSPy with what it knows of a call that was answered."""
        if self._binding.caller.on_answer is not None:
            self._binding.caller.on_answer(entry)
        rollout = current_rollout()
        if rollout is not None:
            rollout.cut_off = rollout.cut_off or was_cut_off(entry)
            tokens = rollout.meter.report(entry)
            if tokens is not None:
                self._binding.endpoint.used(tokens)
        if rollout is None or rollout.keeps_history:
            lm: Any = super()
            lm.update_history(entry)


def governed(
    lm: Any,
    governor: Governor,
    *,
    caller: Caller | None = None,
    threads: Threads | None = None,
    loop: asyncio.AbstractEventLoop | None = None,
    **changes: Any,
) -> Any:
    """A copy of `lm` with `changes`, whose calls go through `governor`. `lm` itself is not touched.

    It is still of the LM's own class, and so are its copies. DSPy's own retries are off in it, so that a call is tried
    again in one place. Where the LM has no async side, async calls run its sync side in a thread. `loop` is the
    governor's event loop, by default the one that runs.
    """
    copied: Any = lm.copy(**changes)
    governor.secrets.learn(lm)
    copied.num_retries = 0
    endpoint = governor.endpoint(endpoint_name(lm))
    copied._binding = _Binding(
        governor,
        endpoint,
        caller or Caller(),
        threads or Threads(),
        loop or asyncio.get_running_loop(),
        has_async_side(lm),
        imports_on_first_call(lm),
    )
    kind: type[Any] = copied.__class__
    copied.__class__ = _governed_class(kind)
    return copied


def routed(lm: Any) -> Any:
    """Return what a call of `lm` is to be made on: within a rollout, a governed LM.

    For `route_lm_calls`.
    """
    rollout = current_rollout()
    if rollout is None or rollout.govern is None or isinstance(lm, _Governed):
        return lm
    return rollout.govern(lm)


@cache
def _governed_class(cls: type[Any]) -> type[Any]:
    if issubclass(cls, _Governed):
        return cls
    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
    return type(cls.__name__, (_Governed, cls), names)


def _rollout() -> RolloutContext:
    return current_rollout() or RolloutContext(Meter())


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
