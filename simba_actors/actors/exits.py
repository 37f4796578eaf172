"""Exit reasons: why a process ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from simba_actors.actors.errors import BadReasonError


@dataclass(frozen=True, slots=True)
class Exit:
    """A named exit reason: `NORMAL`, `SHUTDOWN`, `KILLED`, or your own, such as `Exit("shutdown", "upgrade")`."""

    name: str
    """The kind of exit, in one word."""
    detail: Any = None
    """Details, for logs and supervisors."""

    def __str__(self) -> str:
        return self.name if self.detail is None else f"{self.name}: {self.detail}"


NORMAL = Exit("normal")
"""The process finished its work."""
SHUTDOWN = Exit("shutdown")
"""A supervisor or the host asked the process to stop."""
KILLED = Exit("killed")
"""The process was ended from outside, without a chance to clean up."""

ExitReason: TypeAlias = "Exit | BaseException"
"""A named reason, or the exception that a callback raised."""


def check_reason(reason: object) -> None:
    """Raise BadReasonError unless `reason` is an `Exit` or an exception."""
    if not isinstance(reason, Exit | BaseException):
        raise BadReasonError(
            f"{reason!r} is not an exit reason: pass an Exit, such as Exit({str(reason)!r}), or an exception"
        )


def is_abnormal(reason: ExitReason) -> bool:
    """Return whether `reason` is reported as a crash and restarts a transient child.

    `NORMAL` and `SHUTDOWN`, with or without a detail, are not abnormal. Every other reason is.
    """
    return not (reason == NORMAL or (isinstance(reason, Exit) and reason.name == SHUTDOWN.name))


def describe(reason: ExitReason) -> str:
    """Return `reason` as one line of text."""
    return str(reason) if isinstance(reason, Exit) else f"{type(reason).__name__}: {reason}"
