"""A supervisor's children: what each place holds, and what can be asked of them from outside."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Literal

from simba_actors.actors.child_spec import ChildSpec
from simba_actors.actors.errors import ActorError, BadReturnError
from simba_actors.actors.process import Process
from simba_actors.actors.ref import Address, Call, Ref
from simba_actors.actors.shutting_down import shut_down


@dataclass(slots=True, eq=False)
class Child:
    """A child's place: its spec, its process while it has one, and whether it is to have one again.

    `restarts` counts all restarts, those that failed included; `row` those of the present row, which ends when a life
    lasts longer than the supervisor's `max_seconds`. `timer` runs while a backoff lasts.
    """

    spec: ChildSpec
    process: Process | None = None
    restarting: bool = False
    restarts: int = 0
    row: int = 0
    started: float = 0.0
    timer: asyncio.TimerHandle | None = None

    @property
    def running(self) -> bool:
        return self.process is not None

    @property
    def ref(self) -> Ref | None:
        return None if self.process is None else Ref(self.process)

    async def start(self, supervisor: Process) -> Ref:
        """Starts the process and ties it to `supervisor`. Raises what the start raises."""
        try:
            ref = await self.spec.start()
        finally:
            self.stop_restarting()
        if not isinstance(ref, Ref):  # pyright: ignore[reportUnnecessaryIsInstance] - it is the caller's function
            raise BadReturnError(f"the start function of child {self.spec.id!r} gave {ref!r}, which is no Ref")
        process = ref.target  # It may have started well and crashed since; its exit signal then tells.
        process.parent = supervisor
        process.restarts = self.restarts
        supervisor.link(process)
        self.process = process
        self.started = supervisor.loop.time()
        return ref

    async def stop(self, supervisor: Process) -> None:
        """Shuts the process down, if there is one, with the patience of the spec."""
        if self.process is not None:
            await shut_down(self.process, supervisor, self.spec.patience)
            self.process = None

    def stop_restarting(self) -> None:
        self.restarting = False
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


@dataclass(frozen=True, slots=True)
class ChildInfo:
    """What `which_children` tells of one child."""

    id: Hashable
    ref: Ref | None
    restarting: bool
    restarts: int
    type: Literal["worker", "supervisor"]


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
    """Adds a child and starts it.

    Raises:
        StartIgnoredError: Its `init` said Ignore. It was added, but for a temporary one.
        AlreadyStartedError, AlreadyPresentError: There is a child of that id, running or not.
        MaxChildrenError: A dynamic supervisor is full.
        StartFailedError: It did not start, and was not added.
        BadSpecError: The spec makes no sense here.
    """
    return _or_raise(await supervisor.call(StartChild(spec), timeout=None))


async def terminate_child(supervisor: Address, child: Hashable) -> None:
    """Shuts a child down, given by its id or ref, and keeps its spec (a temporary child's is dropped).

    Fine if it is not running.

    Raises:
        NotAChildError: There is no such child.
    """
    _or_raise(await supervisor.call(TerminateChild(child), timeout=None))


async def restart_child(supervisor: Address, child: Hashable) -> Ref:
    """Starts a child that is not running.

    Raises:
        NotAChildError, ChildRunningError, ChildRestartingError: It can't be restarted now.
        StartFailedError, StartIgnoredError: It did not start.
    """
    return _or_raise(await supervisor.call(RestartChild(child), timeout=None))


async def delete_child(supervisor: Address, child: Hashable) -> None:
    """Forgets a child that is not running.

    Raises:
        NotAChildError, ChildRunningError, ChildRestartingError: It can't be deleted now.
    """
    _or_raise(await supervisor.call(DeleteChild(child), timeout=None))


async def which_children(supervisor: Address) -> list[ChildInfo]:
    """The children, in order of their start."""
    return await supervisor.call(WhichChildren(), timeout=None)


def _or_raise(answer: Any) -> Any:
    if isinstance(answer, ActorError):
        raise answer
    return answer
