"""Why a process ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from simba_actors.actors.errors import BadReasonError


@dataclass(frozen=True, slots=True)
class Exit:
    """A named exit reason: `NORMAL`, `SHUTDOWN`, `KILLED`, or your own, such as `Exit("shutdown", "upgrade")`."""

    name: str
    detail: Any = None

    def __str__(self) -> str:
        return self.name if self.detail is None else f"{self.name}: {self.detail}"


NORMAL = Exit("normal")
"""The work is done."""
SHUTDOWN = Exit("shutdown")
"""Asked to stop, by a supervisor or the host."""
KILLED = Exit("killed")
"""Ended from outside without a chance to clean up."""

ExitReason: TypeAlias = "Exit | BaseException"
"""A named reason, or the exception that a callback raised."""


def check_reason(reason: object) -> None:
    """Raises BadReasonError unless `reason` is an `Exit` or an exception."""
    if not isinstance(reason, Exit | BaseException):
        raise BadReasonError(
            f"{reason!r} is no exit reason: give an Exit, such as Exit({str(reason)!r}), or an exception"
        )


def is_abnormal(reason: ExitReason) -> bool:
    """Whether a transient child is restarted after it, and whether it is reported as a crash.

    `NORMAL` is not, nor is `SHUTDOWN` with or without a detail; every other reason is.
    """
    return not (reason == NORMAL or (isinstance(reason, Exit) and reason.name == SHUTDOWN.name))


def describe(reason: ExitReason) -> str:
    return str(reason) if isinstance(reason, Exit) else f"{type(reason).__name__}: {reason}"
