"""Spans of LM calls, as https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/ has them."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from dspy.utils.callback import BaseCallback
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer

from simba_actors.lm.usage import tokens

_current_call: ContextVar[str] = ContextVar("simba_actors_lm_call", default="")
"""DSPy's id of the LM call that is under way."""


class LMCallSpans(BaseCallback):
    """A span for each LM call that is sent, under whatever span is current."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._open: dict[str, Span] = {}

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        model = str(instance.model)
        settings: dict[str, Any] = {**instance.kwargs, **inputs.get("kwargs", {})}
        told = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": model.partition("/")[0],
            "gen_ai.request.model": model,
            "gen_ai.request.temperature": settings.get("temperature"),
            "gen_ai.request.max_tokens": settings.get("max_tokens"),
        }
        attributes: dict[str, Any] = {name: value for name, value in told.items() if value is not None}
        # DSPy calls this in the context of the call itself.
        _current_call.set(call_id)
        self._open[call_id] = self._tracer.start_span(f"chat {model}", kind=SpanKind.CLIENT, attributes=attributes)

    def answered(self, entry: Mapping[str, Any]) -> None:
        """What DSPy puts into an LM's history, before the call ends: DSPy tells its callbacks nothing of usage."""
        span = self._open.get(_current_call.get())
        if span is None:
            return
        prompt, completion = tokens(entry)
        told = {
            "gen_ai.response.model": entry.get("response_model"),
            "gen_ai.usage.input_tokens": prompt,
            "gen_ai.usage.output_tokens": completion,
            "simba_actors.cost": entry.get("cost"),
        }
        span.set_attributes({name: value for name, value in told.items() if value is not None})

    def on_lm_end(self, call_id: str, outputs: dict[str, Any] | None, exception: BaseException | None = None) -> None:
        span = self._open.pop(call_id)
        if exception is not None:
            span.set_attribute("error.type", type(exception).__name__)
            span.set_status(StatusCode.ERROR)
        span.end()
