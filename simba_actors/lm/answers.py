"""Detection of replies without an answer that providers report as a success."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from dspy.utils.exceptions import LMServerError

from simba_actors.dspy_compat.streaming import is_streamed


class NoAnswerError(LMServerError):
    """The provider sent a reply with status 200 and no answer in it."""


def missing_answer(entry: Mapping[str, Any]) -> NoAnswerError | None:
    """Return the error for a history entry whose reply holds no answer; None if it holds one.

    DSPy reads `choices: []`, Gemini's `candidates: []` and an error body with status 200 as an empty text. An empty
    text that the LM did write, and a reply that a content filter has emptied, are answers.
    """
    replies = _replies(entry.get("response"))
    if any(getattr(reply, "finish_reason", None) == "content_filter" for reply in replies):
        return None  # Of a stream, no more is known.
    bodies = [_body(reply) for reply in replies]
    outputs = cast("Sequence[Any]", entry.get("outputs") or ())
    has_content = any(_has_content(output) for output in outputs)
    for body in bodies:
        reason = _broken(body, empty=not has_content)
        if reason is not None:
            error = body.get("error")
            code = cast("Mapping[str, Any]", error).get("code") if isinstance(error, Mapping) else None
            status = code if isinstance(code, int) and 400 <= code <= 599 else None
            return NoAnswerError(reason, model=entry.get("model"), status=status)
    if "outputs" in entry and not outputs:
        return NoAnswerError("the reply holds no answer", model=entry.get("model"))
    return None


def _replies(response: Any) -> list[Any]:
    if response is None:
        return []
    return list(cast("Sequence[Any]", response)) if isinstance(response, list | tuple) else [response]


def _body(reply: Any) -> Mapping[str, Any]:
    """Return the provider's own JSON, as far as the reply keeps it."""
    body = getattr(reply, "provider_data", None)
    if body is None and hasattr(reply, "choices"):
        choices: Any = reply.choices
        finish = [
            {"finish_reason": getattr(choice, "finish_reason", None), "message": True} for choice in choices or ()
        ]
        return {"choices": finish}
    if isinstance(body, Mapping):
        return cast("Mapping[str, Any]", body)
    # A stream that ends without an event of the provider's has no body.
    return {} if is_streamed() else {"unknown": True}


def _has_content(output: Any) -> bool:
    if isinstance(output, Mapping):
        fields = cast("Mapping[str, Any]", output)
        return bool(fields.get("text") or fields.get("tool_calls"))
    return bool(output)


def _broken(body: Mapping[str, Any], *, empty: bool) -> str | None:
    """Return what is wrong with the body of a reply, if something is."""
    choices = cast("list[Any]", body.get("choices") or [{}])
    first = cast("Mapping[str, Any]", choices[0] if isinstance(choices[0], Mapping) else {})
    if first.get("finish_reason") == "error":
        return "the provider broke off its reply: finish_reason is 'error'"
    if not empty or "unknown" in body:
        return None
    if body.get("error"):
        return f"the reply is an error with status 200: {body['error']!r:.500}"
    if "choices" in body:
        return None if first.get("message") or first.get("text") is not None else "the reply has no choices"
    if "candidates" in body or "usageMetadata" in body:
        candidates = cast("list[Mapping[str, Any]]", body.get("candidates") or [])
        if not candidates:
            return "the reply has no candidates"
        reason = candidates[0].get("finishReason")
        return f"the reply is empty: finishReason is {reason!r}" if reason in (None, "OTHER") else None
    if body.get("stop_reason") or body.get("content") or body.get("output"):
        return None
    return "the reply has no field of an answer"
