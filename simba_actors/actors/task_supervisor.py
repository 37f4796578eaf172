"""TaskSupervisor: functions run side by side, whose failures are results and not accidents."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from simba_actors.actors.callers import From
from simba_actors.actors.durations import check_timeout
from simba_actors.actors.errors import BadSpecError
from simba_actors.actors.exits import NORMAL, Exit, ExitReason
from simba_actors.actors.gen_server import GenServer
from simba_actors.actors.process import ExitSignal, Process
from simba_actors.actors.ref import Address, Call
from simba_actors.actors.returns import CallReturn, CastReturn, InitReturn, Reply
from simba_actors.actors.shutting_down import shut_down
from simba_actors.actors.spawn import FunctionProcess

A = TypeVar("A")
B = TypeVar("B")

TASK_SHUTDOWN = 5.0
"""Seconds that a task has to end when it is shut down, as in OTP."""


@dataclass(frozen=True, slots=True)
class Ok(Generic[B]):
    """What the function gave."""

    value: B


@dataclass(frozen=True, slots=True)
class Failed:
    """Why there is no value: what the function raised, or `Exit("timeout")`."""

    reason: ExitReason


@dataclass(frozen=True, slots=True)
class StartTask(Call[None]):
    """Adopts a process that was not started yet, and starts it."""

    process: FunctionProcess


class TaskSupervisor(GenServer[dict[Process, None]]):
    """Keeps tasks until they end, and shuts down those that are left when it stops.

    >>> import asyncio
    >>> from simba_actors.actors import TaskSupervisor, async_stream
    >>> async def double(number):
    ...     await asyncio.sleep(0.01 / number)
    ...     return 2 * number
    >>> async def main():
    ...     tasks = await TaskSupervisor.start()
    ...     async for result in async_stream(tasks, double, [1, 2, 3], max_concurrency=2, timeout=30):
    ...         print(result)
    ...     await tasks.stop()
    >>> asyncio.run(main())
    Ok(value=2)
    Ok(value=4)
    Ok(value=6)

    What fails is a `Failed(reason)` in its place. Tasks are not restarted; for that, use a DynamicSupervisor.
    """

    trap_exit = True

    async def init(self) -> InitReturn:
        self.state = {}
        return None

    async def handle_call(self, message: Any, sender: From[Any]) -> CallReturn:
        match message:
            case StartTask(process=process):
                process.parent = self._process
                process.link(self._process)
                process.spawn()
                self.state[process] = None
                return Reply(None)
            case _:
                return await super().handle_call(message, sender)

    async def handle_info(self, message: Any) -> CastReturn:
        if isinstance(message, ExitSignal):
            self.state.pop(message.process, None)
            return None
        return await super().handle_info(message)

    async def terminate(self, reason: ExitReason) -> None:
        await _shut_down_all(self.state, self._process)

    def format_state(self) -> str:
        return f"{len(self.state)} tasks"


async def async_stream(
    supervisor: Address,
    function: Callable[[A], Awaitable[B]],
    inputs: Iterable[A],
    *,
    max_concurrency: int = 8,
    timeout: float | None = None,
) -> AsyncGenerator[Ok[B] | Failed, None]:
    """`function` of each input, at most `max_concurrency` at a time, in the order of the inputs.

    A crash is a `Failed` with its reason and a run of more than `timeout` seconds a `Failed` with `Exit("timeout")`,
    not an exception. When the consumer stops early (use `contextlib.aclosing`), the rest is shut down.

    Raises:
        BadSpecError: `max_concurrency` is less than 1.
        BadTimeoutError: `timeout` is no duration.
        NoProcessError, CallExitError: The supervisor is gone.
    """
    if max_concurrency < 1:
        raise BadSpecError(f"max_concurrency={max_concurrency!r} must be at least 1")
    check_timeout(timeout)
    remaining = iter(inputs)
    running: deque[FunctionProcess] = deque()
    parent = supervisor.process()
    try:
        while True:
            for value in remaining:
                process = FunctionProcess(function, (value,))
                running.append(process)
                await supervisor.call(StartTask(process), timeout=None)
                _limit(process, timeout)
                if len(running) >= max_concurrency:
                    break
            if not running:
                return
            process = running[0]
            reason = await asyncio.shield(process.exited)
            running.popleft()
            yield Ok(process.value) if reason == NORMAL else Failed(reason)
    finally:
        await _shut_down_all(running, parent)


async def _shut_down_all(processes: Iterable[Process], parent: Process) -> None:
    await asyncio.gather(*(shut_down(process, parent, TASK_SHUTDOWN) for process in processes))


def _limit(process: FunctionProcess, seconds: float | None) -> None:
    """Declares the process dead after `seconds`, whether or not its task obeys."""
    if seconds is not None:
        timer = process.loop.call_later(seconds, process.abandon, Exit("timeout"))
        process.on_exit.append(timer.cancel)
