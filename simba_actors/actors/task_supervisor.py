"""TaskSupervisor: runs functions concurrently, with failures as results."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from simba_actors.actors.calls import Call, From, check_timeout
from simba_actors.actors.errors import BadSpecError
from simba_actors.actors.exits import NORMAL, Exit, ExitReason
from simba_actors.actors.gen_server import GenServer
from simba_actors.actors.process import ExitSignal, Process
from simba_actors.actors.ref import Address
from simba_actors.actors.returns import CallReturn, CastReturn, InitReturn, Reply
from simba_actors.actors.spawn import FunctionProcess

A = TypeVar("A")
B = TypeVar("B")

TASK_SHUTDOWN = 5.0
"""Seconds that a task has to end when it is shut down, as in OTP. Then it is killed."""


@dataclass(frozen=True, slots=True)
class Ok(Generic[B]):
    """The function returned a value."""

    value: B
    """The value."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The function raised an exception, or ran out of time."""

    reason: ExitReason
    """The exception, or `Exit("timeout")`."""


@dataclass(frozen=True, slots=True)
class StartTask(Call[None]):
    """Start a process as a child of the supervisor."""

    process: FunctionProcess


class TaskSupervisor(GenServer[dict[Process, None]]):
    """Runs tasks, and shuts down those that are still running when it stops.

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

    A failure is a `Failed(reason)` among the results. Tasks are not restarted; use a DynamicSupervisor for that.
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
    """Call `function` with each input, concurrently, and yield the results in the order of the inputs.

    A call that raises yields `Failed` with the exception. A call that takes longer than `timeout` seconds yields
    `Failed(Exit("timeout"))`. If the consumer stops early (use `contextlib.aclosing`), running calls are shut down.

    Args:
        supervisor: The TaskSupervisor that runs the calls.
        function: Called with one input.
        inputs: Read one at a time, as slots become free.
        max_concurrency: Maximum number of calls at a time.
        timeout: Seconds that one call may take; None means no limit.

    Raises:
        BadSpecError: `max_concurrency` is less than 1.
        BadTimeoutError: `timeout` is not a number of seconds.
        NoProcessError, CallExitError: The supervisor has exited.
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
                _set_time_limit(process, timeout)
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
    await asyncio.gather(*(process.shut_down(parent, TASK_SHUTDOWN) for process in processes))


def _set_time_limit(process: FunctionProcess, seconds: float | None) -> None:
    """Declare the process dead after `seconds`, even if its task ignores the cancellation."""
    if seconds is not None:
        timer = process.loop.call_later(seconds, process.abandon, Exit("timeout"))
        process.on_exit.append(timer.cancel)
