"""Child specifications: how a supervisor starts, restarts and shuts down a child."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from simba_actors.actors.durations import is_duration
from simba_actors.actors.errors import BadSpecError
from simba_actors.actors.ref import Ref

Restart: TypeAlias = Literal["permanent", "transient", "temporary"]
Shutdown: TypeAlias = "float | Literal['brutal_kill']"

WORKER_SHUTDOWN = 5.0
"""Seconds that a worker has for its `terminate` by default, as in OTP."""


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """One child of a supervisor.

        ChildSpec("counter", partial(Counter.start_link, 5, name="counter", registry=registry))

    Args:
        id: Its name among its siblings.
        start: Starts it, linked, and gives its ref.
        restart: "permanent" children are always restarted, "transient" ones after an abnormal exit, "temporary" ones
            never.
        shutdown: Seconds it has to end when asked, before it is killed; `math.inf` waits for ever and "brutal_kill"
            not at all. None is 5 seconds for a worker and no limit for a supervisor.
        type: Whether it is a supervisor itself.
        significant: Whether its own end counts for its supervisor's `auto_shutdown`.
        backoff: Seconds to wait before the nth restart in a row, n from 1; None restarts at once, as OTP does. A row
            ends when the child lives longer than the supervisor's `max_seconds`. For children that talk to the
            outside. Siblings that are restarted with it run on until then.

    Raises:
        BadSpecError: A value is none of these.
    """

    id: Hashable
    start: Callable[[], Awaitable[Ref]]
    restart: Restart = "permanent"
    shutdown: Shutdown | None = None
    type: Literal["worker", "supervisor"] = "worker"
    significant: bool = False
    backoff: Callable[[int], float] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.id, Hashable):  # pyright: ignore[reportUnnecessaryIsInstance] - the caller may be untyped
            raise BadSpecError(f"id={self.id!r} can't be a child's name: it is not hashable")
        if not callable(self.start):
            raise BadSpecError(f"child {self.id!r}: start must be a function that starts it, not {self.start!r}")
        if self.restart not in ("permanent", "transient", "temporary"):
            raise BadSpecError(
                f"child {self.id!r}: restart={self.restart!r} is none of permanent, transient, temporary"
            )
        if self.type not in ("worker", "supervisor"):
            raise BadSpecError(f"child {self.id!r}: type={self.type!r} is neither worker nor supervisor")
        if self.shutdown is not None and self.shutdown != "brutal_kill" and not is_duration(self.shutdown):
            raise BadSpecError(
                f"child {self.id!r}: shutdown={self.shutdown!r} is neither seconds (or math.inf) nor 'brutal_kill'"
            )
        if self.backoff is not None and not callable(self.backoff):
            raise BadSpecError(f"child {self.id!r}: backoff must be a function of the restart's number")
        if self.significant and self.restart == "permanent":
            raise BadSpecError(f"child {self.id!r}: a permanent child is always restarted, so it can't be significant")

    @property
    def patience(self) -> float:
        """Seconds it has to end when asked; 0 for a brutal kill."""
        if self.shutdown is None:
            return WORKER_SHUTDOWN if self.type == "worker" else math.inf
        return 0.0 if self.shutdown == "brutal_kill" else self.shutdown
