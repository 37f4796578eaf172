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
from collections.abc import Iterator, Mapping
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
    LMUnexpectedError,
    LMUnsupportedFeatureError,
    LMUnsupportedModelError,
)

from simba_actors.dspy_compat.engines import lacks_stream
from simba_actors.dspy_compat.provider_replies import ADVICE
from simba_actors.errors import InfrastructureError
from simba_actors.lm.provider_errors import (
    BLOCKED_CANDIDATES,
    CROWDED_STATUS,
    FLAGGED_WORDS,
    NOT_IMPLEMENTED,
    NOT_NOW_WORDS,
    OVERSIZED_WORDS,
    PAYMENT_REQUIRED,
    PERSISTENT_STATUS,
    PROMPT_CODES,
    PROMPT_STATUS,
    PROMPT_WORDS,
    QUOTA_WORDS,
    SECONDS,
    SPENT_CODES,
    SPENT_WORDS,
    TOO_LONG_WORDS,
    TRANSIENT_STATUS,
    WAIT_PARTS,
    WAIT_WORDS,
)
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
    MISSING_PACKAGE = "missing_package"
    """The LM imports something that is not installed. Pause: the call fails until the user acts."""
    NO_STREAM = "no_stream"
    """The LM's engine can't stream, and the student streams. Pause: the call fails until the user acts."""
    WARNED = "warned"
    """This process turns a warning of the LM or its client into an error. Pause: the call fails until the user acts."""
    BROKEN = "broken"
    """The LM's own code raised an error. Try a few times, then pause: it may be the same at each attempt."""
    PROMPT = "prompt"
    """The provider can't answer this prompt and never will. The program has failed."""


PERSISTENT_ERRORS: tuple[type[BaseException], ...] = (
    LMAuthError,
    LMBillingError,
    LMConfigurationError,
    LMUnsupportedModelError,
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
    LMCollectionLimitError,  # A reply longer than what DSPy collects.
    AdapterParseError,  # An LM that runs a DSPy program itself could not read a reply.
)
"""Errors that DSPy raises for a request or a reply, without the provider."""

EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT})
"""Numbers of the system's errors that mean that this machine has run out of something."""


class ClassifiedError(LMError):
    """A failed call whose class is known where it is raised."""

    def __init__(self, message: str, failure_class: FailureClass, *, retry_after: float | None = None) -> None:
        super().__init__(message, retry_after=retry_after)
        self.failure_class = failure_class


def classify(error: BaseException) -> FailureClass:
    """Return what an error that came out of sending an LM call calls for."""
    if isinstance(error, ClassifiedError):
        return error.failure_class
    if isinstance(error, ImportError):
        return FailureClass.MISSING_PACKAGE
    if isinstance(error, Warning):
        return FailureClass.WARNED
    if lacks_stream(error):
        return FailureClass.NO_STREAM
    status = status_of(error)
    is_prompts = is_prompts_fault(error, status)
    if status == PAYMENT_REQUIRED or isinstance(error, LMBillingError) or (_is_spent(error) and not is_prompts):
        # OpenRouter counts the cost of calls in flight, and says with 402 how long to wait for them.
        waits = status == PAYMENT_REQUIRED and retry_after_of(error) is not None
        return FailureClass.CROWDED if waits else FailureClass.PERSISTENT
    if OVERSIZED_WORDS.search(_message(error)) is not None:
        return FailureClass.REJECTED
    if status in CROWDED_STATUS or isinstance(error, LMRateLimitError):
        return FailureClass.CROWDED
    if is_prompts:
        return FailureClass.PROMPT
    if status in PERSISTENT_STATUS or isinstance(error, PERSISTENT_ERRORS):
        return FailureClass.PERSISTENT
    if status in TRANSIENT_STATUS or NOT_NOW_WORDS.search(_message(error)) is not None:
        return FailureClass.TRANSIENT
    if isinstance(error, LMInvalidRequestError) or status == NOT_IMPLEMENTED or _is_client_error(status):
        return FailureClass.REJECTED
    if _is_own_error(error):
        return FailureClass.BROKEN
    return FailureClass.TRANSIENT


def _is_client_error(status: int | None) -> bool:
    return status is not None and 400 <= status <= 499


def _is_spent(error: BaseException) -> bool:
    """Return whether the account that the call is made for has no money or no quota left."""
    status = status_of(error)
    if not _is_client_error(status) and not (status is None and isinstance(error, LMError)):
        return False
    if _code(error) in SPENT_CODES:
        return True
    message = _message(error)
    if QUOTA_WORDS.search(message) is not None:
        return retry_after_of(error) is None
    return SPENT_WORDS.search(message) is not None


def _code(error: BaseException) -> str | None:
    """Return the provider's own code for the error."""
    code = _attribute(error, "provider_code") or _attribute(error, "code")
    return code if isinstance(code, str) else None


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
    code = _code(error)
    if code in PROMPT_CODES or code in BLOCKED_CANDIDATES:
        return True
    if TOO_LONG_WORDS.search(text) is not None:
        return True
    if status == 500:
        return False
    return PROMPT_WORDS.search(text) is not None and NOT_NOW_WORDS.search(text) is None


def _message(error: BaseException) -> str:
    """Return what the provider says, without the advice that DSPy's client adds."""
    return text_of(error).partition(ADVICE)[0]


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status that the error carries, under one of the names that clients use; None if it has none."""
    for value in (
        _attribute(error, "status"),
        _attribute(error, "status_code"),
        _attribute(_attribute(error, "response"), "status_code"),
        _attribute(error, "code"),  # urllib's HTTPError
        _boto_status(_attribute(error, "response")),
        _status_within(_attribute(error, "provider_code")),
    ):
        if isinstance(value, int) and not isinstance(value, bool) and 100 <= value <= 599:
            return value
    return None


def _status_within(code: object) -> object:
    """Return the status that a proxy such as OpenRouter writes into the body of a reply with status 200."""
    return int(code) if isinstance(code, str) and re.fullmatch(r"[45]\d\d", code) else None


def _boto_status(response: object) -> object:
    """Return the HTTP status in the response of a botocore ClientError."""
    metadata = cast("Mapping[str, Any]", response).get("ResponseMetadata") if isinstance(response, Mapping) else None
    return cast("Mapping[str, Any]", metadata).get("HTTPStatusCode") if isinstance(metadata, Mapping) else None


def _attribute(error: object, name: str) -> Any:
    """Return an attribute of an error; None if there is none, or if reading it fails."""
    try:
        return getattr(error, name, None)
    except Exception:  # noqa: BLE001 - a property of the user's may raise anything
        return None


def retry_after_of(error: BaseException) -> float | None:
    """Return how many seconds the provider asks to wait, in a header or in words; None if it does not ask."""
    try:
        seconds = float(_attribute(error, "retry_after"))
    except OverflowError:
        return None
    except (TypeError, ValueError):
        words = WAIT_WORDS.search(_message(error))
        if words is None:
            return None
        seconds = sum(float(number) * SECONDS[unit.lower()] for number, unit in WAIT_PARTS.findall(words[1]))
    return max(0.0, seconds) if math.isfinite(seconds) else None


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
