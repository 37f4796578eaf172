"""TaskSupervisor: functions run side by side, whose failures are results and not accidents."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from simba_actors.actors.exits import KILLED, Exit, ExitReason
from simba_actors.actors.gen_server import GenServer
from simba_actors.actors.process import ExitSignal, Process
from simba_actors.actors.ref import Address, Call, From
from simba_actors.actors.returns import CallReturn, CastReturn, InitReturn, Reply
from simba_actors.actors.shutting_down import shut_down
from simba_actors.actors.spawn import FunctionProcess

A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True, slots=True)
class Ok(Generic[B]):
    """What the function gave."""

    value: B


@dataclass(frozen=True, slots=True)
class Failed:
    """Why there is no value: what the function raised, or `Exit("timeout")`."""

    reason: ExitReason


@dataclass(frozen=True, slots=True)
class StartTask(Call[FunctionProcess]):
    function: Callable[..., Awaitable[Any]]
    args: tuple[Any, ...]


class TaskSupervisor(GenServer[set[Process]]):
    """Keeps tasks until they end, and shuts down those that are left when it stops.

    tasks = await TaskSupervisor.start()
    async for result in async_stream(tasks, fetch, urls, max_concurrency=8, timeout=30):
        match result:
            case Ok(value=page): ...
            case Failed(reason=reason): ...
    """

    trap_exit = True

    async def init(self) -> InitReturn:
        self.state = set()
        return None

    async def handle_call(self, message: Any, sender: From[Any]) -> CallReturn:
        match message:
            case StartTask(function=function, args=args):
                process = FunctionProcess(function, args)
                process.parent = self._process
                process.link(self._process)
                process.spawn()
                self.state.add(process)
                return Reply(process)
            case _:
                return await super().handle_call(message, sender)

    async def handle_info(self, message: Any) -> CastReturn:
        if isinstance(message, ExitSignal):
            self.state.discard(message.process)
            return None
        return await super().handle_info(message)

    async def terminate(self, reason: ExitReason) -> None:
        await asyncio.gather(*(shut_down(process, self._process, 5.0) for process in self.state))


async def async_stream(
    supervisor: Address,
    function: Callable[[A], Awaitable[B]],
    inputs: Iterable[A],
    *,
    max_concurrency: int = 8,
    timeout: float | None = None,
) -> AsyncIterator[Ok[B] | Failed]:
    """`function` of each input, at most `max_concurrency` at a time, in the order of the inputs.

    A crash is a `Failed` with its reason and a run of more than `timeout` seconds a `Failed` with `Exit("timeout")`,
    not an exception. When the consumer stops early (use `contextlib.aclosing`), the rest is shut down.
    """
    remaining = iter(inputs)
    running: deque[tuple[FunctionProcess, asyncio.TimerHandle | None]] = deque()
    try:
        while True:
            for value in remaining:
                process = await supervisor.call(StartTask(function, (value,)), timeout=None)
                running.append((process, _time_limit(process, timeout)))
                if len(running) >= max_concurrency:
                    break
            if not running:
                return
            process, timer = running[0]
            reason = await asyncio.shield(process.exited)
            running.popleft()
            if timer is not None:
                timer.cancel()
            yield Ok(process.value) if reason == Exit("normal") else Failed(reason)
    finally:
        for process, timer in running:
            if timer is not None:
                timer.cancel()
            process.exit(KILLED)


def _time_limit(process: FunctionProcess, timeout: float | None) -> asyncio.TimerHandle | None:
    return None if timeout is None else process.loop.call_later(timeout, process.exit, Exit("timeout"))
