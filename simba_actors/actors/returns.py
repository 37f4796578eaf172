"""What the callbacks of a GenServer may return."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from simba_actors.actors.durations import is_duration
from simba_actors.actors.errors import BadReturnError
from simba_actors.actors.exits import NORMAL, ExitReason, check_reason

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Continue:
    """Go on with `handle_continue(token)` before any message."""

    token: Any = None


@dataclass(frozen=True, slots=True)
class Idle:
    """Get `IDLE` in `handle_info` if no message comes within `seconds`; 0 means: as soon as none is waiting."""

    seconds: float

    def __post_init__(self) -> None:
        if not is_duration(self.seconds):
            raise BadReturnError(f"Idle({self.seconds!r}) is no number of seconds of at least 0")


IDLE = object()
"""What `handle_info` gets when an `Idle` time is over."""

Then: TypeAlias = "Continue | Idle | None"


@dataclass(frozen=True, slots=True)
class Ignore:
    """From `init`: nothing to run. Start raises StartIgnoredError, and a supervisor goes on without this child."""


@dataclass(frozen=True, slots=True)
class Reply(Generic[R]):
    """From `handle_call`: answer `value`, and live on."""

    value: R
    then: Then = None


@dataclass(frozen=True, slots=True)
class NoReply:
    """Live on. From `handle_call` it means that `reply(sender, …)` comes later."""

    then: Then = None


_NO_ANSWER: Any = object()


@dataclass(frozen=True, slots=True)
class Stop:
    """Run `terminate` and exit for `reason`; from `handle_call`, with a `reply`, answer first."""

    reason: ExitReason = NORMAL
    reply: Any = _NO_ANSWER

    def __post_init__(self) -> None:
        check_reason(self.reason)

    @property
    def has_reply(self) -> bool:
        return self.reply is not _NO_ANSWER


InitReturn: TypeAlias = "Then | Ignore | Stop"
CallReturn: TypeAlias = "Reply[Any] | NoReply | Stop"
CastReturn: TypeAlias = "NoReply | Then | Stop"
