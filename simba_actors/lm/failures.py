"""Classification of failed LM calls: a fault of the prompt, and thus of the program, or of the infrastructure.

    match classify(error):
        case FailureClass.PROMPT: ...      # the program fails, with score 0
        case FailureClass.TRANSIENT: ...   # the call is made again

Whatever comes out of sending a call is the infrastructure's, unless the prompt is known to be to blame: it is longer
than the context window, for example, or a content filter has stopped it.
"""

from __future__ import annotations

import errno
import json
import math
import re
import traceback
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, cast

from dspy.utils.exceptions import (
    AdapterParseError,
    ContextWindowExceededError,
    LMAuthError,
    LMBillingError,
    LMCollectionLimitError,
    LMConfigurationError,
    LMError,
    LMInvalidRequestError,
    LMRateLimitError,
    LMServerError,
    LMUnexpectedError,
    LMUnsupportedFeatureError,
    LMUnsupportedModelError,
)

from simba_actors.errors import InfrastructureError
from simba_actors.programs.values import text_of
from simba_actors.runtime.threads import NO_THREAD


class FailureClass(Enum):
    """Class of a failed LM call, which decides what to do next."""

    CROWDED = "crowded"
    """The endpoint has too much to do. Make fewer calls at a time and make this one again."""
    TRANSIENT = "transient"
    """The provider or the network failed, or the cause is unknown. Make the call again."""
    REJECTED = "rejected"
    """The provider refused the request for a reason not known to be the prompt's. Try a few times, then pause."""
    PERSISTENT = "persistent"
    """The key, the account or the settings are wrong. Pause: the call fails until the user acts."""
    BROKEN = "broken"
    """The LM's own code raised an error. Try a few times, then pause: it may be the same at each attempt."""
    PROMPT = "prompt"
    """The provider can't answer this prompt and never will. The program has failed."""


CROWDED_STATUS = frozenset({429, 503, 529})
PERSISTENT_STATUS = frozenset({401, 402, 403})
TRANSIENT_STATUS = frozenset({408, 409, 423, 424, 425, 499})
"""Statuses from 400 to 499 that say "not now": a model that is still loading, a dependency that failed, a timeout."""

PERSISTENT_ERRORS: tuple[type[BaseException], ...] = (
    LMAuthError,
    LMBillingError,
    LMConfigurationError,
    LMUnsupportedModelError,
    ImportError,
    Warning,  # Promoted to an error by the process that this runs in.
)
"""Errors that recur at each attempt, with any prompt."""

CODE_ERRORS = (
    TypeError,
    ValueError,
    AttributeError,
    LookupError,
    AssertionError,
    ArithmeticError,
    NameError,
    NotImplementedError,
)
"""Errors that code raises about itself or its arguments."""

NOT_CODE_ERRORS = (OSError, json.JSONDecodeError, UnicodeError)
"""Errors of these types that the network or a garbled reply causes."""

PROMPT_ERRORS: tuple[type[BaseException], ...] = (
    LMUnsupportedFeatureError,  # Tools, images and the like, which the student asks for.
    LMCollectionLimitError,  # A reply beyond all bounds.
    AdapterParseError,  # An LM that runs a DSPy program itself could not read a reply.
)
"""Errors that DSPy raises for a request or a reply, without the provider."""

PROMPT_STATUS = frozenset({400, 403, 413, 422, 500})
"""Statuses with which providers refuse a prompt. Others come with messages that only sound like it: rate limits speak
of tokens and limits too."""

PROMPT_CODES = frozenset(
    {
        "context_length_exceeded",
        "exceed_context_size_error",
        "request_too_large",
        "string_above_max_length",
        "content_filter",
        "content_policy_violation",
        "image_content_policy_violation",
        "invalid_prompt",
        "invalid_json_schema",
        "invalid_function_parameters",
        "invalid_base64",
        "invalid_image",
        "invalid_image_format",
        "invalid_image_url",
        "image_parse_error",
        "image_too_large",
        "image_too_small",
        "unsupported_image_media_type",
        "promptFeedback",  # What DSPy calls a prompt that Gemini has blocked.
    }
)
"""Codes of OpenAI, Azure, Anthropic, Groq and llama.cpp for requests whose content they can't take."""

BLOCKED_CANDIDATES = frozenset(
    {
        "SAFETY",
        "RECITATION",
        "LANGUAGE",
        "BLOCKLIST",
        "PROHIBITED_CONTENT",
        "SPII",
        "MALFORMED_FUNCTION_CALL",
        "UNEXPECTED_TOOL_CALL",
        "TOO_MANY_TOOL_CALLS",
        "IMAGE_SAFETY",
        "IMAGE_PROHIBITED_CONTENT",
        "IMAGE_RECITATION",
        "NO_IMAGE",
    }
)
"""Gemini's reasons for a reply that it holds back: https://ai.google.dev/api/generate-content#FinishReason."""

PROMPT_PHRASES = (
    # Too long.
    r"(maximum|max|exceed\w*|available|beyond).{0,30}context (length|size|window)",
    r"context (length|window|size).{0,20}exceed",
    r"maximum context",
    r"too large for model with",
    r"(prompt|input|request|message|conversation|content)s? (is|are) too (long|large)",
    r"too many (input )?tokens",
    r"input (token count|length).{0,80}exceed",
    r"exceed\w* .{0,40}maximum (number of|input) tokens",
    r"reduce the length of",
    r"max_new_tokens` must be",
    r"string too long",
    # Filtered.
    r"content[ _](management )?(policy|filter)",
    r"content filtering",
    r"violated guardrail|guardrail_intervened",
    r"responsible ?ai",
    r"(prompt|input|content|output|candidate)s? ((was|were|is|has been|have been) )?(flagged|blocked|filtered)",
    r"potentially violating|violat\w+ .{0,40}(usage|content|safety) polic",
    r"safety system",
    # Malformed.
    r"invalid schema for",
    r"could not process (image|pdf|document)",
    r"(unsupported|invalid) image|image .{0,30}(exceeds|too large)",
    r"(does not|doesn't|not) support .{0,20}(image|audio|vision|pdf|document|file)",
    r"(text content blocks|messages?) must (be non-empty|contain non-whitespace|have non-empty)",
    r"not valid unicode|surrogates not allowed",
)
"""Phrases of providers' errors about prompts that they can't answer."""

PROMPT_WORDS = re.compile("|".join(PROMPT_PHRASES), re.IGNORECASE | re.DOTALL)

EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT})
"""Numbers of the system's errors that mean that this machine has run out of something."""

FLAGGED_WORDS = re.compile(r"requires moderation|flagged|content[ _](policy|filter)|violated guardrail", re.IGNORECASE)
"""Phrases of OpenRouter and proxies with status 403, which otherwise means that access is denied."""

NOT_NOW_WORDS = re.compile(
    r"rate.?limit|throttl|per (minute|second|day)|please wait|try again|overloaded|at capacity"
    r"|(is|still|being) load(ing|ed)",
    re.IGNORECASE,
)
"""Phrases of errors after which the same request may succeed later, with any status."""


class ClassifiedError(LMError):
    """A failed call whose class is known where it is raised."""

    def __init__(self, message: str, failure_class: FailureClass, *, retry_after: float | None = None) -> None:
        super().__init__(message, retry_after=retry_after)
        self.failure_class = failure_class


class NoAnswerError(LMServerError):
    """The provider sent a reply with status 200 and no answer in it."""


def classify(error: BaseException) -> FailureClass:
    """Return what an error that came out of sending an LM call calls for."""
    if isinstance(error, ClassifiedError):
        return error.failure_class
    status = status_of(error)
    if isinstance(error, LMBillingError):
        return FailureClass.PERSISTENT  # "insufficient_quota" comes with 429.
    if status in CROWDED_STATUS or isinstance(error, LMRateLimitError):
        return FailureClass.CROWDED
    if is_prompts_fault(error, status):
        return FailureClass.PROMPT
    if status in PERSISTENT_STATUS or isinstance(error, PERSISTENT_ERRORS):
        return FailureClass.PERSISTENT
    if status in TRANSIENT_STATUS or NOT_NOW_WORDS.search(_message(error)) is not None:
        return FailureClass.TRANSIENT
    if isinstance(error, LMInvalidRequestError) or (status is not None and 400 <= status <= 499):
        return FailureClass.REJECTED
    if _is_own_error(error):
        return FailureClass.BROKEN
    return FailureClass.TRANSIENT


def _is_own_error(error: BaseException) -> bool:
    """Return whether the LM's own code raised the error, rather than the network or the provider."""
    if isinstance(error, LMUnexpectedError):  # What DSPy raises for an error of an engine, or of its own for a reply.
        error = error.__cause__ or error
        if _raised_by(error) == "dspy":
            return False
    return isinstance(error, CODE_ERRORS) and not isinstance(error, NOT_CODE_ERRORS) and status_of(error) is None


def _raised_by(error: BaseException) -> str | None:
    """Return the name of the package whose code raised the error."""
    frames = list(traceback.walk_tb(error.__traceback__))
    return frames[-1][0].f_globals.get("__name__", "").partition(".")[0] if frames else None


def is_prompts_fault(error: BaseException, status: int | None) -> bool:
    """Return whether the error is known to be about the content of the prompt or of the reply."""
    if isinstance(error, PROMPT_ERRORS):
        return True
    if isinstance(error, OSError) or (status is not None and status >= 400 and status not in PROMPT_STATUS):
        return False
    text = _message(error)
    if status == 403:
        return FLAGGED_WORDS.search(text) is not None
    if status == 413 or isinstance(error, ContextWindowExceededError):
        return True
    code = _attribute(error, "provider_code") or _attribute(error, "code")
    if isinstance(code, str) and (code in PROMPT_CODES or code in BLOCKED_CANDIDATES):
        return True
    return PROMPT_WORDS.search(text) is not None and NOT_NOW_WORDS.search(text) is None


def _message(error: BaseException) -> str:
    """Return what the provider says, without the advice that DSPy's client adds."""
    return text_of(error).partition("\n\n  To fix:")[0]


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status that the error carries, under one of the names that clients use; None if it has none."""
    for value in (
        _attribute(error, "status"),
        _attribute(error, "status_code"),
        _attribute(_attribute(error, "response"), "status_code"),
        _attribute(error, "code"),  # urllib's HTTPError
    ):
        if isinstance(value, int) and not isinstance(value, bool) and 100 <= value <= 599:
            return value
    return None


def _attribute(error: object, name: str) -> Any:
    """Return an attribute of an error; None if there is none, or if reading it fails."""
    try:
        return getattr(error, name, None)
    except Exception:  # noqa: BLE001 - a property of the user's may raise anything
        return None


def retry_after_of(error: BaseException) -> float | None:
    """Return how many seconds the provider asks to wait; None if it does not ask."""
    try:
        seconds = float(_attribute(error, "retry_after"))
    except (TypeError, ValueError):
        return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def missing_answer(entry: Mapping[str, Any]) -> NoAnswerError | None:
    """Return the error for a history entry whose reply holds no answer; None if it holds one.

    DSPy reads `choices: []`, Gemini's `candidates: []` and an error body with status 200 as an empty text. An empty
    text that the LM did write, and a reply that a content filter has emptied, are answers.
    """
    bodies = [_body(reply) for reply in _replies(entry.get("response"))]
    outputs = cast("Sequence[Any]", entry.get("outputs") or ())
    for body in bodies:
        reason = _broken(body, empty=not any(_has_content(output) for output in outputs))
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
    return cast("Mapping[str, Any]", body) if isinstance(body, Mapping) else {"unknown": True}


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


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield `error` and everything that it holds, or was raised from or during, nearest first."""
    seen: set[int] = set()
    ahead = [error]
    while ahead:
        current = ahead.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        if isinstance(current, BaseExceptionGroup):
            ahead.extend(reversed(cast("BaseExceptionGroup[BaseException]", current).exceptions))
        ahead.extend(cause for cause in (current.__context__, current.__cause__) if cause is not None)


def is_exhaustion(error: BaseException) -> bool:
    """Return whether this machine has no memory, thread, file or disk space left."""
    if isinstance(error, OSError):
        return error.errno in EXHAUSTED
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and str(error) == NO_THREAD)


def infrastructure_cause(error: BaseException) -> BaseException | None:
    """Return the infrastructure's failure behind an error that a student or a metric raised; None if it is their own.

    They may have wrapped the LM's error in one of theirs, so its causes count. Only errors that certainly come from an
    LM or from a machine that has run out of something do: a tool of the student that could not be reached is the
    student's own affair, as in DSPy.
    """
    for cause in causes(error):
        if isinstance(cause, InfrastructureError):
            return cause
        if is_exhaustion(cause):
            return cause
        if isinstance(cause, LMError) or type(cause).__module__.partition(".")[0] in ("litellm", "openai", "anthropic"):
            return None if classify(cause) is FailureClass.PROMPT else cause
    return None
