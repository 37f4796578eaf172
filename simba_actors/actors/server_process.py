"""The process of a GenServer: takes messages from the mailbox one at a time and runs the callbacks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from simba_actors.actors.calls import From, check_timeout, reply
from simba_actors.actors.errors import (
    BadReturnError,
    BadSpecError,
    StartIgnoredError,
    StartStoppedError,
    StartTimeoutError,
)
from simba_actors.actors.exits import KILLED, NORMAL, SHUTDOWN, Exit, ExitReason, describe
from simba_actors.actors.process import CastEnvelope, Down, ExitSignal, Process, SystemMessage, logger
from simba_actors.actors.ref import Ref, Registry
from simba_actors.actors.returns import IDLE, Continue, Idle, Ignore, NoReply, Reply, Stop, Then

if TYPE_CHECKING:
    from simba_actors.actors.gen_server import GenServer

START_GRACE_PERIOD = 5.0
"""Seconds that `init` has to clean up when the caller of `start` is cancelled. Then it is killed."""

BURST = 100
"""Maximum number of waiting messages to handle before the rest of the event loop gets a turn."""


@dataclass(frozen=True, slots=True)
class StopRequest(SystemMessage):
    """Request to stop, sent by `ref.stop`."""

    reason: ExitReason


@dataclass(frozen=True, slots=True)
class SystemRequest(SystemMessage):
    """Request of the `sys` module. The server calls `run` with its process, between callbacks."""

    run: Callable[[ServerProcess], Any]
    sender: From[Any]


@dataclass(slots=True)
class Statistics:
    """Counters of a server since it started."""

    started: float
    """The event loop's time at the start, in seconds."""
    calls: int = 0
    """Calls handled."""
    casts: int = 0
    """Casts handled."""
    infos: int = 0
    """Other messages handled by `handle_info`."""


class ServerProcess(Process):
    """Runs the callbacks of one GenServer."""

    def __init__(self, server: GenServer[Any], name: Hashable) -> None:
        kind = type(server).__name__
        if server.mailbox_size < 0:
            raise BadSpecError(f"{kind}.mailbox_size={server.mailbox_size!r} must be at least 0")
        super().__init__(
            kind if name is None else f"{kind} {name!r}",
            mailbox_size=server.mailbox_size,
            trap_exit=server.trap_exit,
        )
        self.server = server
        server._process = self  # pyright: ignore[reportPrivateUsage] - the two objects form one server
        self.up: asyncio.Future[None] = self.loop.create_future()
        self.up.add_done_callback(_mark_retrieved)
        self.last_message: Any = None
        self.statistics = Statistics(self.loop.time())
        self._ignored = False
        self._deferred: list[SystemMessage] = []
        self._burst = 0

    async def start(self, name: Hashable, registry: Registry | None, timeout: float | None) -> None:
        """Run `init`. Return when the server is running; raise what `GenServer.start` documents."""
        check_timeout(timeout)
        if registry is not None:
            if name is None:
                raise BadSpecError(f"{self.name} has a registry but no name: pass name= as well")
            registry.register(name, Ref(self))
        if self.parent is not None:
            self.link(self.parent)
        self.spawn()
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                await asyncio.shield(self.up)
        except TimeoutError:
            if not limit.expired():
                raise
            self.exit(KILLED)
            await self.reap()
            raise StartTimeoutError(f"init of {self.name} took longer than {timeout} s") from None
        except asyncio.CancelledError:
            await self._undo_start()
            raise

    def request_stop(self, reason: ExitReason) -> None:
        self.mailbox.put_system(StopRequest(reason))

    def suspend(self) -> None:
        self.mailbox.suspended = True

    def resume(self) -> None:
        """Handle messages again, first the exit signals that arrived while suspended."""
        self.mailbox.suspended = False
        for message in self._deferred:
            self.mailbox.put_system(message)
        self._deferred.clear()

    async def body(self) -> ExitReason:
        match returned := await self.server.init():
            case Ignore():
                self._ignored = True
                return NORMAL
            case Stop(reason=reason):
                return reason
            case None | Continue() | Idle():
                self.up.set_result(None)
                return await self._serve(returned)
            case _:
                raise BadReturnError(f"init of {self.name} returned {returned!r}")

    async def cleanup(self, reason: ExitReason) -> None:
        if self.up.done():
            await self.server.terminate(reason)

    def report(self, reason: ExitReason) -> None:
        if self.up.done():  # A failed start is reported by its caller.
            logger.error(
                "%s crashed: %s\n  last message: %s\n  state: %s\n  restarts so far: %d",
                self.name,
                describe(reason),
                _formatted(lambda: self.server.format_message(self.last_message)),
                _formatted(self.server.format_state),
                self.restarts,
                exc_info=reason if isinstance(reason, BaseException) else None,
            )

    def die(self, reason: ExitReason) -> None:
        if not self.up.done() and self.parent is not None:
            self.unlink(self.parent)  # A failed start is an error of the parent's call, not an exit signal.
        super().die(reason)
        if self.up.done():
            return
        if self._ignored:
            self.up.set_exception(StartIgnoredError(f"{self.name} did not start: init returned Ignore"))
        elif isinstance(reason, Exit):
            self.up.set_exception(StartStoppedError(f"{self.name} did not start: {reason}", reason))
        else:
            self.up.set_exception(reason)

    async def _undo_start(self) -> None:
        self.exit(SHUTDOWN)
        try:
            if self.task is not None:
                await asyncio.wait([self.task], timeout=START_GRACE_PERIOD)
        finally:
            self.exit(KILLED)

    async def _serve(self, then: Then) -> ExitReason:
        server, statistics = self.server, self.statistics
        while self.asked_to_exit is None:
            if isinstance(then, Continue):
                returned = await server.handle_continue(then.token)
            else:
                item = await self._receive(then)
                if isinstance(item, From):
                    statistics.calls += 1
                    call = cast("From[Any]", item)
                    self.last_message = call.message
                    returned = self._answered(call, await server.handle_call(call.message, call))
                elif isinstance(item, CastEnvelope):
                    statistics.casts += 1
                    self.last_message = item.message
                    returned = await server.handle_cast(item.message)
                elif isinstance(item, SystemMessage):
                    returned = await self._system(item, then)
                else:
                    returned = await self._info(item)
            match returned.then if isinstance(returned, NoReply) else returned:
                case None | Continue() | Idle() as then:
                    pass
                case Stop(reason=reason):
                    return reason
                case _:
                    raise BadReturnError(f"a callback of {self.name} returned {returned!r}")
        return self.asked_to_exit

    async def _receive(self, then: Idle | None) -> Any:
        mailbox = self.mailbox
        if not mailbox.empty():
            self._burst += 1
            if self._burst >= BURST:
                self._burst = 0
                await asyncio.sleep(0)
            return mailbox.get_nowait()
        self._burst = 0
        if then is None or mailbox.suspended:
            return await mailbox.get()
        try:
            async with asyncio.timeout(then.seconds):
                return await mailbox.get()
        except TimeoutError:
            return IDLE if mailbox.empty() else mailbox.get_nowait()

    def _answered(self, call: From[Any], returned: Any) -> Then | Stop:
        match returned:
            case Reply():
                answer = cast("Reply[Any]", returned)
                reply(call, answer.value)
                return answer.then
            case NoReply(then=then):
                return then
            case Stop():
                if returned.has_reply:
                    reply(call, returned.reply)
                return returned
            case _:
                raise BadReturnError(f"handle_call of {self.name} returned {returned!r}")

    async def _system(self, message: SystemMessage, then: Idle | None) -> Any:
        match message:
            case StopRequest(reason=reason):
                return Stop(reason)
            case ExitSignal(process=process, reason=reason) if process is self.parent:
                return Stop(reason)
            case SystemRequest():
                _run_request(self, message)
                return then
            case ExitSignal() | Down() if self.mailbox.suspended:
                self._deferred.append(message)
                return then
            case _:
                return await self._info(message)

    async def _info(self, message: Any) -> Any:
        self.statistics.infos += 1
        self.last_message = message
        return await self.server.handle_info(message)


def _formatted(format_: Callable[[], str]) -> str:
    try:
        return format_()
    except Exception as error:  # noqa: BLE001 - formatting a crash report must not crash
        return f"(can't be formatted: {describe(error)})"


def _run_request(process: ServerProcess, request: SystemRequest) -> None:
    future = request.sender.future
    try:
        result = request.run(process)
    except Exception as error:  # noqa: BLE001 - passed on to the sender of the request
        if not future.done():
            future.set_exception(error)
    else:
        reply(request.sender, result)


def _mark_retrieved(future: asyncio.Future[Any]) -> None:
    """Keep asyncio from logging the error if the caller of `start` is gone."""
    if not future.cancelled():
        future.exception()
