"""Prices of models, as DSPy knows them."""

from __future__ import annotations

from typing import Any, cast

import dspy
from dspy.clients import capabilities, costs
from dspy.lm15 import Message, Response, TextPart, Usage

TOKENS = 1000
"""Number of tokens that are priced. For prices that rise with the length of a prompt, this is the length."""


def price_of(lm: Any) -> tuple[float, float] | None:
    """Return US dollars for a token of the prompt and for one of the completion; None if they are unknown.

    Blocks for up to 5 s at the first call of a process, in which DSPy fetches its price list.
    """
    if not isinstance(lm, dspy.LM):
        return None
    try:
        both, prompt = _dollars(lm, TOKENS, TOKENS), _dollars(lm, TOKENS, 0)
    except Exception:  # noqa: BLE001 - a model that DSPy can't route has no price, and its call says what is wrong
        return None
    return None if both is None or prompt is None else (prompt / TOKENS, (both - prompt) / TOKENS)


def _dollars(lm: Any, prompt: int, completion: int) -> float | None:
    route: Any = cast("Any", capabilities).resolve(lm)
    response = Response(
        id=None,
        model=route.model,
        message=Message.assistant([TextPart("")]),
        finish_reason="stop",
        usage=Usage(input_tokens=prompt, output_tokens=completion, total_tokens=prompt + completion),
    )
    estimate: Any = cast("Any", costs).estimate_cost(response, provider=route.provider, requested_model=route.model)
    return cast("float | None", estimate[0])
