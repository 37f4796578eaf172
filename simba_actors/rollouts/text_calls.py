"""LM calls without a trip into a thread that only media need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dspy
from dspy.clients import execution
from dspy.lm15 import Request

_ACALL: Any = vars(dspy.BaseLM)["acall"]


def calls_as_dspy_does(lm: Any) -> bool:
    """Whether `lm.acall` is DSPy's own, and neither its class nor somebody who watches calls has put another there."""
    nearest = next(vars(cls)["acall"] for cls in type(lm).__mro__ if "acall" in vars(cls))
    return nearest is _ACALL and hasattr(lm, "_engine_spec")


def is_text_call(lm: Any, prompt: Any, kwargs: Mapping[str, Any]) -> bool:
    """Whether `acall_of_text` does for this call what DSPy's own `acall` would.

    It does not for typed requests, whose media may be in files, nor where callbacks are to hear of the call.
    """
    typed = isinstance(prompt, Request) or "request" in kwargs
    return not (typed or lm.callbacks or dspy.settings.get("callbacks"))


async def acall_of_text(lm: Any, prompt: Any, *, messages: Any = None, **kwargs: Any) -> Any:
    """What `BaseLM.acall` does, on the event loop up to the request itself.

    DSPy prepares each call in a thread, for the sake of media in files. For text that is microseconds of work, and the
    way there and back costs many times as much, of which the host's event loop bears the most.
    """
    steps: Any = execution
    call = steps.prepare(lm, prompt, messages, kwargs, asynchronous=True)
    return steps.finalize(lm, call, await steps.aexecute(lm, call))
