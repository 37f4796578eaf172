"""Return values of GenServer callbacks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from simba_actors.actors.calls import is_duration
from simba_actors.actors.errors import BadReturnError
from simba_actors.actors.exits import NORMAL, ExitReason, check_reason

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Continue:
    """Run `handle_continue(token)` before the next message."""

    token: Any = None
    """Passed to `handle_continue`, to tell one continuation from another."""


@dataclass(frozen=True, slots=True)
class Idle:
    """Deliver `IDLE` to `handle_info` unless a message arrives within `seconds`.

    0 delivers it as soon as no message is waiting.

    Raises:
        BadReturnError: `seconds` is not a number of at least 0.
    """

    seconds: float

    def __post_init__(self) -> None:
        if not is_duration(self.seconds):
            raise BadReturnError(f"Idle({self.seconds!r}) must have a number of seconds of at least 0")


IDLE = object()
"""The message that `handle_info` gets when an `Idle` time has passed."""

Then: TypeAlias = "Continue | Idle | None"
"""Next step of a server after a callback: continue, wait with an idle time, or wait."""


@dataclass(frozen=True, slots=True)
class Ignore:
    """Do not run. Only `init` returns it: start raises StartIgnoredError, and a supervisor skips the child."""


@dataclass(frozen=True, slots=True)
class Reply(Generic[R]):
    """Send `value` to the caller and keep running. Only `handle_call` returns it."""

    value: R
    """The reply."""
    then: Then = None
    """The next step."""


@dataclass(frozen=True, slots=True)
class NoReply:
    """Keep running. When `handle_call` returns it, the caller waits until `reply(sender, value)`."""

    then: Then = None
    """The next step."""


_NO_REPLY: Any = object()


@dataclass(frozen=True, slots=True)
class Stop:
    """Run `terminate` and exit. `handle_call` may give a `reply`, which the caller gets first.

    Raises:
        BadReasonError: `reason` is neither an `Exit` nor an exception.
    """

    reason: ExitReason = NORMAL
    """The exit reason."""
    reply: Any = _NO_REPLY
    """The reply to the call. Without one the caller gets a CallExitError with the reason."""

    def __post_init__(self) -> None:
        check_reason(self.reason)

    @property
    def has_reply(self) -> bool:
        return self.reply is not _NO_REPLY


InitReturn: TypeAlias = "Then | Ignore | Stop"
"""Return values of `init`."""
CallReturn: TypeAlias = "Reply[Any] | NoReply | Stop"
"""Return values of `handle_call`."""
CastReturn: TypeAlias = "NoReply | Then | Stop"
"""Return values of `handle_cast`, `handle_info` and `handle_continue`."""
