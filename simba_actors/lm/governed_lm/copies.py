"""Copies of the user's LMs whose calls go through the governor."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from copy import copy
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal, cast

from simba_actors.dspy_compat.engines import has_async_side, imports_on_first_call, most_requests
from simba_actors.dspy_compat.provider_replies import add_reply
from simba_actors.dspy_compat.reply_cache import has_cached_reply
from simba_actors.dspy_compat.settings import has_lm_of_context
from simba_actors.dspy_compat.streaming import is_streamed
from simba_actors.errors import LMAccessError
from simba_actors.lm.access import endpoint_name, renew_access
from simba_actors.lm.answers import NoAnswerError, missing_answer
from simba_actors.lm.budget import COUNTED, CallSize
from simba_actors.lm.endpoint import Endpoint
from simba_actors.lm.governed_lm.temperature import TemperatureTrial
from simba_actors.lm.governor import Caller, Governor
from simba_actors.lm.rollout_context import RolloutContext, current_rollout
from simba_actors.lm.usage import Meter, prompt_characters, tokens, was_cut_off
from simba_actors.runtime.exception_isolation import raised_in_thread
from simba_actors.runtime.threads import Threads


@dataclass(frozen=True, slots=True)
class _Binding:
    """The context of a governed LM."""

    original: Any
    """The user's LM."""
    temperature: float | None
    """The temperature that sampling has put in place of the LM's own; None if it has not."""
    governor: Governor
    caller: Caller
    threads: Threads
    loop: asyncio.AbstractEventLoop
    has_async_side: bool
    imports_late: bool

    def calls_in_thread(self, endpoint: Endpoint) -> bool:
        """Return whether async calls run the LM's sync side in a thread.

        Those of a provider do until one is answered: the first imports what the provider needs, and where that is
        LiteLLM it takes seconds. A stream can't, since DSPy's sync side streams only in threads of anyio.
        """
        return not self.has_async_side or (self.imports_late and not endpoint.has_answered and not is_streamed())

    def __deepcopy__(self, memo: dict[int, Any]) -> _Binding:
        """Return the same binding: students copy themselves, and DSPy's LMs with them."""
        return self


class Governed:
    """Mixin for the class of a copied LM, whose calls then wait for a slot and are made again when they fail.

    A wrapper that delegates is not enough. An LM's own methods may call the LM, like `lm.ask_twice(question)` with
    `self(question)` in it. There `self` would be the wrapped LM, whose calls bypass the governor. DSPy and students
    also check `isinstance(lm, MyLM)`, set attributes that such methods read, and make copies by
    `lm.copy(rollout_id=1)`. A wrapper would have to imitate the class and forward each of these.
    """

    _binding: _Binding

    def __init_subclass__(cls) -> None:
        """Do nothing. The LM's class may forbid subclasses or register them, and this one should not count."""

    async def acall(self, prompt: Any = None, **kwargs: Any) -> Any:
        lm: Any = super()
        return await acall(self, lm.acall, lm.__call__, prompt, kwargs)

    def __call__(self, prompt: Any = None, **kwargs: Any) -> Any:
        lm: Any = super()
        return call(self, lm.__call__, prompt, kwargs)

    def update_history(self, entry: Mapping[str, Any]) -> None:
        """Record an answered call. DSPy calls this with the call's history entry."""
        report(self, entry)
        rollout = current_rollout()
        if rollout is None or rollout.keeps_history:
            lm: Any = super()
            lm.update_history(entry)


def call(lm: Any, send: Callable[..., Any], prompt: Any, kwargs: Mapping[str, Any]) -> Any:
    """Return what `send(prompt, **kwargs)` returns, the LM's own way to make a call, once it may be sent."""
    binding = lm._binding
    endpoint = _endpoint_now(lm)
    request = _Request(lm, endpoint, send, prompt, kwargs)
    attempt = request.send
    if _has_cached_reply(lm, prompt, kwargs, asynchronous=False):
        request.is_cached = True
        with suppress(NoAnswerError):  # Without an answer, the request goes to the provider now.
            return attempt()
    if _runs_here(binding.loop):
        # A student that blocks the event loop can't wait for a slot, which is given on that loop.
        return binding.governor.call_blocking(endpoint, binding.caller, _rollout(), attempt, request.size)
    return binding.governor.call_in_thread(endpoint, binding.caller, _rollout(), attempt, binding.loop, request.size)


async def acall(
    lm: Any,
    asend: Callable[..., Awaitable[Any]],
    send: Callable[..., Any],
    prompt: Any,
    kwargs: Mapping[str, Any],
) -> Any:
    """Return what `asend(prompt, **kwargs)` returns, or `send` in a thread where needed, once it may be sent."""
    binding = lm._binding
    if asyncio.get_running_loop() is not binding.loop:
        # A student in a thread that runs an event loop of its own, which must not be blocked either.
        return await binding.threads.run(partial(call, lm, send, prompt, kwargs))
    endpoint = _endpoint_now(lm)
    in_thread = binding.calls_in_thread(endpoint)
    cached_side = await _cached_side(lm, prompt, kwargs)
    if cached_side is not None:
        in_thread = cached_side == "sync"
    request = _Request(lm, endpoint, send if in_thread else asend, prompt, kwargs)
    attempt = partial(binding.threads.run, request.send) if in_thread else request.asend
    if cached_side is not None:
        request.is_cached = True
        with suppress(NoAnswerError):
            return await attempt()
    return await binding.governor.call(endpoint, binding.caller, _rollout(), attempt, request.size)


def report(lm: Any, entry: Mapping[str, Any]) -> None:
    """Count what an answered call used. Raise NoAnswerError if its reply holds no answer."""
    missing = missing_answer(entry)
    if missing is not None:
        raise missing
    binding, request = lm._binding, in_call.get()
    counted = 1 if request is None else request.counted
    if not counted and tokens(entry) == (None, None):
        entry = {**entry, "calls": 0}
    if binding.caller.on_answer is not None:
        binding.caller.on_answer({**entry, COUNTED: counted})
    rollout = current_rollout()
    if rollout is not None:
        rollout.cut_off = rollout.cut_off or was_cut_off(entry)
        used = rollout.meter.report(entry, sent=counted > 0)
        if used is not None:
            binding.governor.endpoint(endpoint_name(lm)).used(used)


class _Request:
    """One call of the student's, by `call`, the LM's own way to make one.

    The first attempt has all arguments of the student's, later ones possibly fewer.
    """

    def __init__(
        self, lm: Any, endpoint: Endpoint, call: Callable[..., Any], prompt: Any, kwargs: Mapping[str, Any]
    ) -> None:
        self._lm = lm
        self._call = call
        self._prompt = prompt
        self._kwargs = dict(kwargs)
        binding = lm._binding
        is_sampled = "temperature" not in kwargs and lm.kwargs.get("temperature") == binding.temperature
        self._temperature = TemperatureTrial(endpoint, binding.original, binding.temperature if is_sampled else None)
        self.is_cached = False
        """Whether the call is made without its turn and not counted, since DSPy's cache has the reply."""

    @property
    def size(self) -> CallSize:
        """What is known of the call before it is sent."""
        settings = {**self._lm.kwargs, **self._kwargs}
        limit = settings.get("max_completion_tokens") or settings.get("max_tokens")
        characters = prompt_characters({"prompt": self._prompt, "messages": self._kwargs.get("messages")})
        requests = most_requests(self._lm, settings.get("n"))
        limit = limit if isinstance(limit, int) else None
        return CallSize(characters or None, limit, self._lm._binding.original, requests)

    @property
    def counted(self) -> int:
        """How many requests were counted before the call."""
        return 0 if self.is_cached else self.size.requests

    def send(self) -> Any:
        """Make one attempt by a sync call."""
        token = in_call.set(self)
        try:
            answer = self._call(self._prompt, **self._temperature.arguments(self._kwargs))
        except Exception as error:
            self._failed(error)
            raise
        except BaseException as error:
            raise raised_in_thread(error) from error
        finally:
            in_call.reset(token)
        self._temperature.answered()
        return answer

    async def asend(self) -> Any:
        """Make one attempt by an async call."""
        token = in_call.set(self)
        try:
            answer = await self._call(self._prompt, **self._temperature.arguments(self._kwargs))
        except Exception as error:
            self._failed(error)
            raise
        finally:
            in_call.reset(token)
        self._temperature.answered()
        return answer

    def _failed(self, error: Exception) -> None:
        add_reply(error)
        if isinstance(error, NoAnswerError):
            self._kwargs["cache"] = False  # DSPy has put the reply into its cache.
            self.is_cached = False
            return
        self._temperature.failed(error)


class _Default:
    """Mixed into a copy's class, over `Governed`: an LM that is truthy only where `dspy.context` has set none.

    A predictor without an LM of its own uses the context's: `self.lm or settings.lm`. A thread that a student
    has started itself has no such context. There, a predictor with an LM of this kind uses that LM.
    """

    def __bool__(self) -> bool:
        return not has_lm_of_context()


def governed(
    lm: Any,
    governor: Governor,
    *,
    caller: Caller | None = None,
    threads: Threads | None = None,
    loop: asyncio.AbstractEventLoop | None = None,
    **changes: Any,
) -> Any:
    """Return a copy of `lm` with `changes`, whose calls go through `governor`. `lm` itself is not changed.

    The copy has the LM's own class, and so do its copies. DSPy's own retries are off in it, so that only the governor
    makes calls again. Each call uses the credentials and the address that `lm` has at that time. If the LM has no async
    side, async calls run its sync side in a thread. `loop` is the governor's event loop, by default the running one.

    Raises:
        LMAccessError: The LM can't be copied.
    """
    try:
        copied: Any = lm.copy(**changes)
    except Exception as error:
        raise LMAccessError(
            f"{type(lm).__name__} for {lm.model!r} can't be copied: {governor.secrets.describe(error)}. Calls are made "
            "on a copy, with a rollout id and a temperature of its own: let the LM's copy() return one"
        ) from error
    governor.secrets.learn(lm)
    copied.num_retries = 0
    copied._binding = _Binding(
        original=lm,
        temperature=changes.get("temperature"),
        governor=governor,
        caller=caller or Caller(),
        threads=threads or Threads(),
        loop=loop or asyncio.get_running_loop(),
        has_async_side=has_async_side(lm),
        imports_late=imports_on_first_call(lm),
    )
    kind: type[Any] = copied.__class__
    copied.__class__ = _class_with(Governed, kind)
    return copied


def default_of_threads(lm: Any) -> Any:
    """Return a copy of a governed LM, for predictors to use in threads without `dspy.context`. See `_Default`."""
    copied: Any = copy(lm)
    kind: type[Any] = copied.__class__
    copied.__class__ = _class_with(_Default, kind)
    return copied


in_call: ContextVar[_Request | None] = ContextVar("simba_actors_in_lm_call", default=None)
"""The governed call that this code is part of, if any, with whatever `forward` and `aforward` it calls."""


@cache
def _class_with(mixin: type[Any], cls: type[Any]) -> type[Any]:
    if issubclass(cls, mixin):
        return cls
    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
    return type(cls.__name__, (mixin, cls), names)


def _endpoint_now(lm: Any) -> Endpoint:
    """Update the credentials and the address from the user's LM, and return the endpoint."""
    binding: _Binding = lm._binding
    own, originals = cast("dict[str, Any]", vars(lm)), cast("dict[str, Any]", vars(binding.original))
    settings_renewed = renew_access(lm.kwargs, binding.original.kwargs)
    attributes_renewed = renew_access(own, originals)
    if settings_renewed or attributes_renewed:
        binding.governor.secrets.learn(binding.original)
    return binding.governor.endpoint(endpoint_name(lm))


def _rollout() -> RolloutContext:
    return current_rollout() or RolloutContext(Meter())


def _runs_here(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


async def _cached_side(lm: Any, prompt: Any, kwargs: Mapping[str, Any]) -> Literal["async", "sync"] | None:
    """Return the side of the LM whose cached reply answers an async call; None if there is none.

    DSPy keeps the replies of both sides apart. The first calls of a process go by the sync side, later ones do not, so
    that both may have the replies of earlier runs.
    """
    if not kwargs.get("cache", lm.cache):
        return None
    binding: _Binding = lm._binding
    return await binding.threads.run(partial(_find_cached_side, lm, prompt, kwargs))


def _find_cached_side(lm: Any, prompt: Any, kwargs: Mapping[str, Any]) -> Literal["async", "sync"] | None:
    binding: _Binding = lm._binding
    if binding.has_async_side and _has_cached_reply(lm, prompt, kwargs, asynchronous=True):
        return "async"
    goes_by_sync_side = not binding.has_async_side or binding.imports_late
    return "sync" if goes_by_sync_side and _has_cached_reply(lm, prompt, kwargs, asynchronous=False) else None


def _has_cached_reply(lm: Any, prompt: Any, kwargs: Mapping[str, Any], *, asynchronous: bool) -> bool:
    try:
        return has_cached_reply(lm, prompt, kwargs, asynchronous=asynchronous)
    except Exception:  # noqa: BLE001 - the call meets the same error, and the governor judges it
        return False
