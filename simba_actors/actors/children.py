"""Children of a supervisor: their specifications, and functions to start, stop and list them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from simba_actors.actors.calls import Call, is_duration
from simba_actors.actors.errors import ActorError, BadReturnError, BadSpecError
from simba_actors.actors.process import Process
from simba_actors.actors.ref import Address, Ref

Restart: TypeAlias = Literal["permanent", "transient", "temporary"]
Shutdown: TypeAlias = "float | Literal['brutal_kill']"

WORKER_SHUTDOWN = 5.0
"""Default seconds that a worker has to shut down, as in OTP."""


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """Rules by which a supervisor starts, restarts and shuts down one child.

        ChildSpec("counter", partial(Counter.start_link, 5, name="counter", registry=registry))

    Raises:
        BadSpecError: A field has an invalid value.
    """

    id: Hashable
    """The child's name among its siblings."""
    start: Callable[[], Awaitable[Ref]]
    """Starts the child, linked, and returns its ref."""
    restart: Restart = "permanent"
    """When to restart the child: "permanent" always, "transient" after an abnormal exit, "temporary" never."""
    shutdown: Shutdown | None = None
    """Seconds it has to exit when asked, before it is killed. `math.inf` waits without a limit and "brutal_kill" kills
    it at once. None means 5 seconds for a worker and no limit for a supervisor."""
    type: Literal["worker", "supervisor"] = "worker"
    """Whether the child is a supervisor itself."""
    significant: bool = False
    """Whether its own exit counts for the supervisor's `auto_shutdown`. Not for permanent children."""
    backoff: Callable[[int], float] | None = None
    """Seconds to wait before the nth consecutive restart, n starting at 1. None restarts at once, as OTP does. The
    count starts again once the child has lived longer than the supervisor's `max_seconds`. Siblings that are restarted
    with the child keep running while it waits."""

    def __post_init__(self) -> None:
        if not isinstance(self.id, Hashable):  # pyright: ignore[reportUnnecessaryIsInstance] - the caller may be untyped
            raise BadSpecError(f"id={self.id!r} must be hashable")
        if not callable(self.start):
            raise BadSpecError(f"child {self.id!r}: start={self.start!r} must be a function that starts the child")
        if self.restart not in ("permanent", "transient", "temporary"):
            raise BadSpecError(f"child {self.id!r}: restart={self.restart!r} must be permanent, transient or temporary")
        if self.type not in ("worker", "supervisor"):
            raise BadSpecError(f"child {self.id!r}: type={self.type!r} must be worker or supervisor")
        if self.shutdown is not None and self.shutdown != "brutal_kill" and not is_duration(self.shutdown):
            raise BadSpecError(
                f"child {self.id!r}: shutdown={self.shutdown!r} must be seconds, math.inf or 'brutal_kill'"
            )
        if self.backoff is not None and not callable(self.backoff):
            raise BadSpecError(f"child {self.id!r}: backoff={self.backoff!r} must be a function of a number")
        if self.significant and self.restart == "permanent":
            raise BadSpecError(f"child {self.id!r}: a permanent child is always restarted, so it can't be significant")

    @property
    def grace_period(self) -> float:
        """Seconds the child has to exit when asked; 0 for a brutal kill."""
        if self.shutdown is None:
            return WORKER_SHUTDOWN if self.type == "worker" else math.inf
        return 0.0 if self.shutdown == "brutal_kill" else self.shutdown


@dataclass(slots=True, eq=False)
class Child:
    """A supervisor's record of one child."""

    spec: ChildSpec
    process: Process | None = None
    """The running process, or None."""
    restarting: bool = False
    """Whether the child is waiting for its next restart."""
    restarts: int = 0
    """All restarts, failed ones included."""
    consecutive_restarts: int = 0
    """Restarts since the child last lived longer than the supervisor's `max_seconds`."""
    started: float = 0.0
    """Loop time of the last start."""
    timer: asyncio.TimerHandle | None = None
    """The timer of a backoff."""

    @property
    def running(self) -> bool:
        return self.process is not None

    @property
    def ref(self) -> Ref | None:
        return None if self.process is None else Ref(self.process)

    async def start(self, supervisor: Process) -> Ref:
        """Start the process and link it to `supervisor`. Raise what the start function raises."""
        try:
            ref = await self.spec.start()
        finally:
            self.stop_restarting()
        if not isinstance(ref, Ref):  # pyright: ignore[reportUnnecessaryIsInstance] - it is the caller's function
            raise BadReturnError(f"the start function of child {self.spec.id!r} must return a Ref, not {ref!r}")
        process = ref.target  # If it has crashed since it started, its exit signal follows.
        process.parent = supervisor
        process.restarts = self.restarts
        supervisor.link(process)
        self.process = process
        self.started = supervisor.loop.time()
        return ref

    async def stop(self, supervisor: Process) -> None:
        """Shut the process down, if it is running."""
        if self.process is not None:
            await self.process.shut_down(supervisor, self.spec.grace_period)
            self.process = None

    def stop_restarting(self) -> None:
        self.restarting = False
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


@dataclass(frozen=True, slots=True)
class ChildInfo:
    """One child, as `which_children` returns it."""

    id: Hashable
    """The child's id."""
    ref: Ref | None
    """The child's ref; None while it is not running."""
    restarting: bool
    """Whether it is waiting for its next restart."""
    restarts: int
    """Number of restarts, including failed ones."""
    type: Literal["worker", "supervisor"]
    """Whether it is a worker or a supervisor."""


@dataclass(frozen=True, slots=True)
class StartChild(Call["Ref | ActorError"]):
    spec: ChildSpec


@dataclass(frozen=True, slots=True)
class TerminateChild(Call["ActorError | None"]):
    id: Hashable


@dataclass(frozen=True, slots=True)
class RestartChild(Call["Ref | ActorError"]):
    id: Hashable


@dataclass(frozen=True, slots=True)
class DeleteChild(Call["ActorError | None"]):
    id: Hashable


@dataclass(frozen=True, slots=True)
class WhichChildren(Call[list[ChildInfo]]):
    pass


async def start_child(supervisor: Address, spec: ChildSpec) -> Ref:
    """Add a child to a supervisor, start it, and return its ref.

    Raises:
        StartIgnoredError: Its `init` returned `Ignore`. The supervisor keeps the spec, unless the child is temporary.
        AlreadyStartedError: A running child has this id.
        AlreadyPresentError: A stopped child has this id.
        MaxChildrenError: The dynamic supervisor is full.
        StartFailedError: The child did not start. It was not added.
        BadSpecError: The spec does not fit this supervisor.
    """
    return _value_or_raise(await supervisor.call(StartChild(spec), timeout=None))


async def terminate_child(supervisor: Address, child: Hashable) -> None:
    """Shut down a child, given by its id or ref. Do nothing if it is not running.

    The supervisor keeps the child's spec, unless the child is temporary.

    Raises:
        NotAChildError: The supervisor has no such child.
    """
    _value_or_raise(await supervisor.call(TerminateChild(child), timeout=None))


async def restart_child(supervisor: Address, child: Hashable) -> Ref:
    """Start a child that is not running, and return its new ref.

    Raises:
        NotAChildError: The supervisor has no such child.
        ChildRunningError: The child is running.
        ChildRestartingError: The child is waiting for its restart.
        StartFailedError: The child did not start.
        StartIgnoredError: Its `init` returned `Ignore`.
    """
    return _value_or_raise(await supervisor.call(RestartChild(child), timeout=None))


async def delete_child(supervisor: Address, child: Hashable) -> None:
    """Remove a child that is not running.

    Raises:
        NotAChildError: The supervisor has no such child.
        ChildRunningError: The child is running.
        ChildRestartingError: The child is waiting for its restart.
    """
    _value_or_raise(await supervisor.call(DeleteChild(child), timeout=None))


async def which_children(supervisor: Address) -> list[ChildInfo]:
    """Return a supervisor's children in start order."""
    return await supervisor.call(WhichChildren(), timeout=None)


def _value_or_raise(answer: Any) -> Any:
    if isinstance(answer, ActorError):
        raise answer
    return answer
