"""Whose fault an error is: the program's, which scores 0, or the infrastructure's, which scores nothing."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Any, cast

from dspy.utils.exceptions import (
    LMAuthError,
    LMBillingError,
    LMCollectionLimitError,
    LMConfigurationError,
    LMError,
    LMInvalidRequestError,
    LMLockTimeoutError,
    LMProviderError,
    LMRateLimitError,
    LMServerError,
    LMStreamAssemblyError,
    LMTimeoutError,
    LMTransportError,
    LMUnexpectedError,
    LMUnsupportedFeatureError,
    LMUnsupportedModelError,
)

from simba_actors.errors import InfrastructureError


class FailureClass(Enum):
    """What an LM's error says."""

    CROWDED = "crowded"
    """Too much was asked at once: slow down and try again."""
    TRANSIENT = "transient"
    """Gone when tried again, mostly: the provider was slow or broken for a moment, or the network was."""
    PERSISTENT = "persistent"
    """The same until somebody acts; trying again is of no use."""
    PROGRAM = "program"
    """The provider refused what the program made of its input, and would again."""


CLASSES: tuple[tuple[type[BaseException], FailureClass], ...] = (
    (LMRateLimitError, FailureClass.CROWDED),
    (LMTimeoutError, FailureClass.TRANSIENT),
    (LMServerError, FailureClass.TRANSIENT),
    (LMTransportError, FailureClass.TRANSIENT),
    (LMLockTimeoutError, FailureClass.TRANSIENT),  # Another process holds the credentials for a moment.
    (LMStreamAssemblyError, FailureClass.TRANSIENT),  # The reply broke off on its way.
    (LMAuthError, FailureClass.PERSISTENT),
    (LMBillingError, FailureClass.PERSISTENT),
    (LMConfigurationError, FailureClass.PERSISTENT),  # A missing key among others.
    (LMUnsupportedModelError, FailureClass.PERSISTENT),  # An invalid request by class, but whatever the prompt is.
    (LMInvalidRequestError, FailureClass.PROGRAM),  # A prompt beyond the context window among others.
    (LMUnsupportedFeatureError, FailureClass.PROGRAM),  # Tools, images or the like, which the student asks for.
    (LMCollectionLimitError, FailureClass.PROGRAM),  # A reply beyond all bounds: the prompt brought it about.
    (LMUnexpectedError, FailureClass.TRANSIENT),  # An engine broke; nothing says that the prompt is to blame.
    (LMProviderError, FailureClass.TRANSIENT),  # The provider said no, and nothing more.
    (LMError, FailureClass.TRANSIENT),
)
"""The blame of each kind of DSPy's LM errors; the first that fits counts."""

CROWDED_STATUS = frozenset({429, 503, 529})
PERSISTENT_STATUS = frozenset({401, 402, 403})
TIMEOUT_STATUS = frozenset({408, 504})

NETWORK_ERRORS = frozenset({"TransportError", "APIConnectionError", "APITimeoutError", "Timeout", "ClientError"})
"""Base classes of network errors in httpx, openai, litellm, requests and aiohttp, known without importing those."""


def classify(error: BaseException) -> FailureClass | None:
    """The blame of an error that an LM's call raised, or None if nothing of it points to an LM or the network.

    Custom LMs raise what their clients raise: what has an HTTP status is judged by it.
    """
    status: Any = getattr(error, "status", None) or getattr(error, "status_code", None)
    if isinstance(error, LMServerError) and status in CROWDED_STATUS:
        return FailureClass.CROWDED
    for kind, verdict in CLASSES:
        if isinstance(error, kind):
            return verdict
    if isinstance(status, int) and 400 <= status <= 599:
        return _class_of_status(status)
    if isinstance(error, ConnectionError | TimeoutError):
        return FailureClass.TRANSIENT
    if any(cls.__name__ in NETWORK_ERRORS for cls in type(error).__mro__):
        return FailureClass.TRANSIENT
    return None


def _class_of_status(status: int) -> FailureClass:
    if status in CROWDED_STATUS:
        return FailureClass.CROWDED
    if status in PERSISTENT_STATUS:
        return FailureClass.PERSISTENT
    return FailureClass.TRANSIENT if status >= 500 or status in TIMEOUT_STATUS else FailureClass.PROGRAM


def causes(error: BaseException) -> Iterator[BaseException]:
    """`error` and everything that it holds, or was raised from or during, nearest first."""
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


def infrastructure_cause(error: BaseException) -> BaseException | None:
    """The infrastructure's failure behind an error that a student or a metric raised, or None if it is their own.

    They may have wrapped the LM's error in one of theirs, so its causes count. Only errors that come from an LM for
    certain do: a tool of the student that could not be reached is the student's own affair, as in DSPy.
    """
    for cause in causes(error):
        if isinstance(cause, InfrastructureError):
            return cause
        if isinstance(cause, LMError) or type(cause).__module__.partition(".")[0] in ("litellm", "openai", "anthropic"):
            verdict = classify(cause)
            if verdict is not None:
                return None if verdict is FailureClass.PROGRAM else cause
    return None
