"""Calls of LMs that a rollout's code makes itself: they are made on governed twins of those LMs."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from simba_actors.dspy_compat.lm_calls import route_lm_calls
from simba_actors.lm.governed_lm.copies import Governed, acall, call, governed, in_call, report
from simba_actors.lm.governor import Caller, Governor
from simba_actors.lm.rollout_context import current_rollout, inherit_rollouts
from simba_actors.lm.usage import entry_of_response
from simba_actors.runtime.threads import Threads

TWINS_KEPT = 64
"""Maximum number of governed twins that are kept of LMs that code calls directly."""


class Twins:
    """Governed twins of the LMs that a rollout's code calls directly, made at the first call of each. Thread-safe.

    twins = Twins(governor, caller, threads)
    reply = twins(lm)("hello")

    The user's LM keeps the history of its twin's calls.
    """

    def __init__(self, governor: Governor, caller: Caller, threads: Threads) -> None:
        self._govern = partial(governed, governor=governor, caller=caller, threads=threads)
        self._loop = asyncio.get_running_loop()
        self._lock = threading.RLock()  # The `copy` of a user's LM may call another LM.
        self._known: OrderedDict[int, tuple[Any, Any]] = OrderedDict()

    def __call__(self, lm: Any) -> Any:
        with self._lock:
            if id(lm) not in self._known:
                if len(self._known) >= TWINS_KEPT:
                    self._known.popitem(last=False)
                twin = self._govern(lm, loop=self._loop)
                twin.history = lm.history
                self._known[id(lm)] = lm, twin  # The LM itself, so that its id stays its own.
            return self._known[id(lm)][1]


def govern_while_alive(twins: Twins) -> None:
    """Govern LMs that rollouts call directly, in threads of theirs too, for as long as `twins` are used."""
    weakref.finalize(twins, inherit_rollouts())
    weakref.finalize(twins, route_lm_calls(routed, routed_forward))


def routed(lm: Any) -> Any:
    """Return the LM that a call of `lm` is made on: within a rollout, its governed twin. For `route_lm_calls`."""
    rollout = current_rollout()
    if rollout is None or rollout.govern is None or isinstance(lm, Governed):
        return lm
    return rollout.govern(lm)


def routed_forward(lm: Any, name: str, method: Callable[..., Any]) -> Callable[..., Any] | None:
    """Return what to call in place of `method`, the `forward` or `aforward` of an LM, in code that calls it directly.

    For `route_lm_calls`. Such a call is governed like any other of a rollout. DSPy keeps none in its histories.
    """
    if in_call.get() is not None:
        return None
    twin = routed(lm)
    return partial(_forward_directly, twin, name, method) if isinstance(twin, Governed) else None


def _forward_directly(lm: Any, name: str, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    prompt = args[0] if args else kwargs.get("prompt")

    def answered(response: Any, options: Mapping[str, Any]) -> Any:
        report(lm, entry_of_response(lm, response, {"prompt": prompt, **options}))
        return response

    def send(_: Any, /, **options: Any) -> Any:
        return answered(type(lm).forward(lm, *args, **options), options)

    async def asend(_: Any, /, **options: Any) -> Any:
        return answered(await method(lm, *args, **options), options)

    return call(lm, send, prompt, kwargs) if name == "forward" else acall(lm, asend, send, prompt, kwargs)
