"""The servers that these tests talk to."""

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
    """Raises `error` where it is handled, as a call or a cast."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class Leave(Call[str]):
    """Stops with `reason`, as a call after an answer."""

    reason: ExitReason


@dataclass(frozen=True, slots=True)
class Run(Call[Any]):
    """Answers with what `function` gives, awaited in the server's own task."""

    function: Callable[[Worker], Awaitable[Any]]


class Worker(GenServer[int]):
    """Counts, crashes and leaves as it is told, and writes its life into a log."""

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
    """Hears of the ends of others as messages, and writes them down too."""

    trap_exit = True

    async def handle_info(self, message: Any) -> CastReturn:
        self.log.append(f"{type(message).__name__}({message.process.name}, {message.reason})")
        return None


def child(log: Log, label: str, server: type[Worker] = Worker, **spec: Any) -> ChildSpec:
    """A worker that is called `label` by its supervisor, in its log and in reports."""
    return ChildSpec(label, partial(server.start_link, log, label, name=label), **spec)


async def refs(supervisor: Ref) -> dict[Any, Ref | None]:
    """The children's refs by their ids."""
    return {info.id: info.ref for info in await which_children(supervisor)}


async def ref_of(supervisor: Ref, child_id: Any) -> Ref:
    ref = (await refs(supervisor))[child_id]
    assert ref is not None
    return ref


async def crash(ref: Ref, error: BaseException | None = None) -> None:
    """Crashes a worker and waits for its end."""
    await ref.cast(Crash(error or RuntimeError("crash")))
    await ref.wait()
