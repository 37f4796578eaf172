"""LM calls without the trips into threads that only media and price lists need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dspy
from dspy.clients import execution
from dspy.lm15 import Request

from simba_actors.lm.rollout_context import current_rollout

_ACALL: Any = vars(dspy.BaseLM)["acall"]

_STEPS: Any = execution
"""The steps that DSPy's own `acall` consists of."""

_STEP_NAMES = (
    "prepare",
    "finalize",
    "error_boundary",
    "_Attempt",
    "_aattempt",
    "_account_failed_call",
    "_engine",
    "_hint_responses_api",
    "_price_result",
)


def calls_as_dspy_does(lm: Any) -> bool:
    """Whether `lm.acall` is DSPy's own, and neither its class nor somebody who watches calls has put another there."""
    if not all(hasattr(_STEPS, name) for name in _STEP_NAMES):
        return False  # A DSPy that has taken its `acall` apart in another way.
    nearest = next(vars(cls)["acall"] for cls in type(lm).__mro__ if "acall" in vars(cls))
    return nearest is _ACALL and hasattr(lm, "_engine_spec")


def is_text_call(lm: Any, prompt: Any, kwargs: Mapping[str, Any]) -> bool:
    """Whether `acall_of_text` does for this call what DSPy's own `acall` would.

    It does not for typed requests, whose media may be in files, nor where callbacks are to hear of the call.
    """
    typed = isinstance(prompt, Request) or "request" in kwargs
    return not (typed or lm.callbacks or dspy.settings.get("callbacks"))


async def acall_of_text(lm: Any, prompt: Any, *, messages: Any = None, **kwargs: Any) -> Any:
    """What `BaseLM.acall` does, on the event loop up to the request itself, and after it.

    DSPy prepares each call in a thread, for the sake of media in files, and looks up its price in another, for the sake
    of a list that the first look-up reads. For text, once an LM was called, that is microseconds of work, and the way
    there and back costs many times as much, of which the host's event loop bears the most.
    """
    call = _STEPS.prepare(lm, prompt, messages, kwargs, asynchronous=True)
    is_plain = call.managed and not call.cache and call.n == 1 and not lm.num_retries
    result = await (_executed_once(lm, call) if is_plain else _STEPS.aexecute(lm, call))
    return _finalized(lm, call, result)


async def _executed_once(lm: Any, call: Any) -> Any:
    """What `execution.aexecute` does for one reply that is neither kept in a cache nor asked for again."""
    backend, request, provider = _STEPS._engine(lm, call, True)
    attempt, results = _STEPS._Attempt(), list[Any]()
    try:
        with _STEPS.error_boundary(lm.model, provider=provider, unexpected=True):
            await _STEPS._aattempt(lm, call, backend, request, provider, attempt, results)
        if request is not None:
            _STEPS._price_result(lm, attempt.result, attempt.response, provider, request)
    except BaseException as error:
        _STEPS._hint_responses_api(lm, error)
        _STEPS._account_failed_call(lm, results, error)
        raise
    return results[0]


def _finalized(lm: Any, call: Any, result: Any) -> Any:
    """What `execution.finalize` does; where no history is kept, the LM hears only of what was used."""
    rollout = current_rollout()
    if rollout is None or rollout.keeps_history:
        return _STEPS.finalize(lm, call, result)
    settings: Any = dspy.settings
    if settings.usage_tracker and not result.cache_hit:
        settings.usage_tracker.add_usage(lm.model, result.usage)
    lm.update_history({"usage": result.usage, "cost": result.cost, "response_model": result.response_model})
    return result.outputs
