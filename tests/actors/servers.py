"""Servers for the tests of the kernel."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from simba_actors.actors import (
    Call,
    CallReturn,
    CastReturn,
    ChildSpec,
    ExitReason,
    From,
    GenServer,
    InitReturn,
    Ref,
    Reply,
    Stop,
    which_children,
)

Log: TypeAlias = list[str]


@dataclass(frozen=True, slots=True)
class Add(Call[int]):
    by: int = 1


@dataclass(frozen=True, slots=True)
class Crash(Call[None]):
    """A message that makes the server raise `error`. It may be a call or a cast."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class Leave(Call[str]):
    """A message that makes the server stop with `reason`. A call is answered first."""

    reason: ExitReason


@dataclass(frozen=True, slots=True)
class Run(Call[Any]):
    """A call that is answered with the result of `function`, awaited in the server's task."""

    function: Callable[[Worker], Awaitable[Any]]


class Worker(GenServer[int]):
    """Counts, crashes or stops on request, and writes its starts and ends to a log."""

    def __init__(self, log: Log | None = None, label: str = "worker") -> None:
        self.log: Log = [] if log is None else log
        self.label = label

    async def init(self) -> InitReturn:
        self.state = 0
        self.log.append(f"start {self.label}")
        return None

    async def handle_call(self, message: Any, sender: From[Any]) -> CallReturn:
        match message:
            case Add(by=by):
                self.state += by
                return Reply(self.state)
            case Crash(error=error):
                raise error
            case Leave(reason=reason):
                return Stop(reason, reply="bye")
            case Run(function=function):
                return Reply(await function(self))
            case _:
                return await super().handle_call(message, sender)

    async def handle_cast(self, message: Any) -> CastReturn:
        match message:
            case Add(by=by):
                self.state += by
                return None
            case Crash(error=error):
                raise error
            case Leave(reason=reason):
                return Stop(reason)
            case _:
                return await super().handle_cast(message)

    async def terminate(self, reason: ExitReason) -> None:
        self.log.append(f"stop {self.label}")


class TrappingWorker(Worker):
    """A worker that traps exits, and logs the exit signals and downs that it gets."""

    trap_exit = True

    async def handle_info(self, message: Any) -> CastReturn:
        self.log.append(f"{type(message).__name__}({message.process.name}, {message.reason})")
        return None


def child(log: Log, label: str, server: type[Worker] = Worker, **spec: Any) -> ChildSpec:
    """Return the spec of a worker named `label`, in its supervisor, the log and crash reports."""
    return ChildSpec(label, partial(server.start_link, log, label, name=label), **spec)


async def refs(supervisor: Ref) -> dict[Any, Ref | None]:
    """Return the children's refs by id."""
    return {info.id: info.ref for info in await which_children(supervisor)}


async def ref_of(supervisor: Ref, child_id: Any) -> Ref:
    ref = (await refs(supervisor))[child_id]
    assert ref is not None
    return ref


async def crash(ref: Ref, error: BaseException | None = None) -> None:
    """Crash a worker and wait for its end."""
    await ref.cast(Crash(error or RuntimeError("crash")))
    await ref.wait()
