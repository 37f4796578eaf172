"""GenServer: a process that keeps a state and answers messages one at a time."""

from __future__ import annotations

import asyncio
import reprlib
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar, cast

from simba_actors.actors.errors import BadReturnError, StartStoppedError, StartTimeoutError
from simba_actors.actors.exits import KILLED, NORMAL, Exit, ExitReason, describe
from simba_actors.actors.mailbox import SystemMessage
from simba_actors.actors.process import ExitSignal, Process, current_process, logger
from simba_actors.actors.ref import CallEnvelope, CastEnvelope, From, OwningRef, Ref, reply
from simba_actors.actors.registry import Registry
from simba_actors.actors.returns import (
    IDLE,
    CallReturn,
    CastReturn,
    Continue,
    Idle,
    Ignore,
    InitReturn,
    NoReply,
    Reply,
    Stop,
    Then,
)

S = TypeVar("S")


class GenServer(Generic[S]):
    """Base of servers with a state of type S.

        class Counter(GenServer[int]):
            async def init(self) -> InitReturn:
                self.state = 0
                return None

            async def handle_call(self, message: Any, sender: From[Any]) -> CallReturn:
                match message:
                    case Increment(by=by):
                        self.state += by
                        return Reply(self.state)
                    case _:
                        return await super().handle_call(message, sender)

        counter = await Counter.start()
        await counter.call(Increment(2))
        await counter.stop()

    Arguments of `start` that it does not name itself go to the class's `__init__`, which only keeps them; work is done
    in `init`, inside the new process. Callbacks run one at a time. One that raises ends the server with that error as
    the exit reason; every waiting caller gets it at once.
    """

    state: S

    mailbox_size: ClassVar[int] = 0
    """How many ordinary messages may wait; 0 is no bound."""

    trap_exit: ClassVar[bool] = False
    """Whether exit signals of linked processes come as `ExitSignal` to `handle_info`, and a supervisor's request to
    shut down waits for the callback under way. Without it they end the server at its next await."""

    async def init(self) -> InitReturn:
        """Sets `self.state`. Start returns when it is done.

        Returns:
            None: The server is up.
            Continue(token): Up; `handle_continue(token)` runs before any message.
            Idle(seconds): Up; `handle_info(IDLE)` runs if no message comes in that time.
            Ignore(): Nothing to run: start returns None.
            Stop(reason): Start fails with the reason.
        """
        return None

    async def handle_call(self, message: Any, sender: From[Any]) -> CallReturn:
        """Answers a call.

        Returns:
            Reply(value): `value` goes to the caller. `then=` a Continue or an Idle, as in `init`.
            NoReply(): The reply comes later, by `reply(sender, value)`.
            Stop(reason, reply=value): Answer, then `terminate` and exit; without `reply` the caller gets the reason.
        """
        raise BadReturnError(f"{type(self).__name__} has no answer to the call {message!r}")

    async def handle_cast(self, message: Any) -> CastReturn:
        """Handles a cast.

        Returns:
            None or NoReply(): Live on; `NoReply(then=…)`, a Continue or an Idle as in `init`.
            Stop(reason): `terminate` and exit.
        """
        raise BadReturnError(f"{type(self).__name__} does not know the cast {message!r}")

    async def handle_info(self, message: Any) -> CastReturn:
        """Handles everything else: what `ref.send` sent, `IDLE`, `ExitSignal`, `Down`. Returns as `handle_cast` does.

        By default it logs a warning and lives on.
        """
        if message is not IDLE:
            logger.warning("%s got a message it does not know: %s", type(self).__name__, reprlib.repr(message))
        return None

    async def handle_continue(self, token: Any) -> CastReturn:
        """Goes on after a callback that returned `Continue(token)`. Returns as `handle_cast` does."""
        raise BadReturnError(f"{type(self).__name__} does not know how to continue with {token!r}")

    async def terminate(self, reason: ExitReason) -> None:
        """Cleans up before the exit, for whatever reason but `KILLED`. What it raises becomes the exit reason."""

    def format_state(self) -> str:
        """The state as crash reports show it. Override it to mask secrets."""
        return reprlib.repr(getattr(self, "state", None))

    @property
    def ref(self) -> Ref:
        """This server's own ref, to hand out. Known from `init` on."""
        return Ref(self._process)

    _process: GenServerProcess

    @classmethod
    async def start(
        cls,
        *args: Any,
        name: Hashable = None,
        registry: Registry | None = None,
        timeout: float | None = None,
        **kwargs: Any,
    ) -> Ref | None:
        """A new server on its own. Keep the ref: whoever drops it gets a ResourceWarning.

        Args:
            name: Its key in `registry`.
            timeout: Seconds that `init` may take; None is no limit.

        Returns:
            Its ref, or None if `init` said Ignore.

        Raises:
            AlreadyStartedError: The name belongs to a living server, whose ref the error carries.
            StartTimeoutError: `init` took too long; nothing is left running.
            BaseException: What `init` raised, or stopped with where that is an exception.
            StartStoppedError: `init` stopped with a named reason.
        """
        process = GenServerProcess(cls(*args, **kwargs), name)
        return OwningRef(process) if await process.start(name, registry, timeout) else None

    @classmethod
    async def start_link(
        cls,
        *args: Any,
        name: Hashable = None,
        registry: Registry | None = None,
        timeout: float | None = None,
        **kwargs: Any,
    ) -> Ref | None:
        """As `start`, linked to the process that calls it: neither outlives an abnormal end of the other."""
        process = GenServerProcess(cls(*args, **kwargs), name)
        process.parent = current_process()
        return Ref(process) if await process.start(name, registry, timeout) else None


@dataclass(frozen=True, slots=True)
class StopRequest(SystemMessage):
    reason: ExitReason


@dataclass(frozen=True, slots=True)
class IdleOver(SystemMessage):
    """The time of the `Idle` with this number is over. Later messages make it void."""

    number: int


@dataclass(frozen=True, slots=True)
class SystemRequest(SystemMessage):
    """What the functions of `simba_actors.actors.sys` send: `run` is called with the process, between callbacks."""

    run: Callable[[GenServerProcess], Any]
    sender: From[Any]


@dataclass(slots=True)
class Statistics:
    """Since the start: messages handled, by kind, and the loop time of the start."""

    started: float
    calls: int = 0
    casts: int = 0
    infos: int = 0


class GenServerProcess(Process):
    """Runs a GenServer's callbacks."""

    def __init__(self, server: GenServer[Any], name: Hashable) -> None:
        kind = type(server).__name__
        super().__init__(
            kind if name is None else f"{kind} {name!r}",
            mailbox_size=server.mailbox_size,
            trap_exit=server.trap_exit,
        )
        self.server = server
        server._process = self  # pyright: ignore[reportPrivateUsage] - the two halves of one server
        self.up: asyncio.Future[bool] = self.loop.create_future()
        self.up.add_done_callback(_retrieve)
        self.last_message: Any = None
        self.statistics = Statistics(self.loop.time())
        self._ignored = False
        self._idle_number = 0
        self._idle_timer: asyncio.TimerHandle | None = None

    async def start(self, name: Hashable, registry: Registry | None, timeout: float | None) -> bool:
        """Whether the server is up; False if its `init` said Ignore."""
        if name is not None and registry is not None:
            registry.register(name, self)
        if self.parent is not None:
            self.link(self.parent)
        self.spawn()
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                return await asyncio.shield(self.up)
        except TimeoutError:
            if not limit.expired():
                raise
            self.exit(KILLED)
            raise StartTimeoutError(f"init of {self.name} took longer than {timeout} s") from None
        except asyncio.CancelledError:
            self.exit(KILLED)
            raise

    def request_stop(self, reason: ExitReason) -> None:
        self.mailbox.put_system(StopRequest(reason))

    async def body(self) -> ExitReason:
        match returned := await self.server.init():
            case Ignore():
                self._ignored = True
                return NORMAL
            case Stop(reason=reason):
                return reason
            case None | Continue() | Idle():
                self.up.set_result(True)
                return await self._serve(returned)
            case _:
                raise BadReturnError(f"init of {self.name} returned {returned!r}")

    async def cleanup(self, reason: ExitReason) -> None:
        if self.up.done():
            await self.server.terminate(reason)

    def _die(self, reason: ExitReason) -> None:
        if not self.up.done() and self.parent is not None:
            self.unlink(self.parent)  # It hears of a failed start by the error, not by a signal besides.
        super()._die(reason)
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        if self.up.done():
            return
        if self._ignored:
            self.up.set_result(False)
        elif isinstance(reason, Exit):
            self.up.set_exception(StartStoppedError(f"{self.name} did not start: {reason}", reason))
        else:
            self.up.set_exception(reason)

    async def _serve(self, then: Then) -> ExitReason:
        while True:
            if isinstance(then, Continue):
                returned = await self.server.handle_continue(then.token)
            else:
                item = await self._receive(then)
                if isinstance(item, CallEnvelope):
                    self.statistics.calls += 1
                    self.last_message = item.message
                    returned = self._answered(item, await self.server.handle_call(item.message, item.sender))
                elif isinstance(item, CastEnvelope):
                    self.statistics.casts += 1
                    self.last_message = item.message
                    returned = await self.server.handle_cast(item.message)
                else:
                    returned = await self._other(item)
            match returned:
                case None | Continue() | Idle():
                    then = returned
                case NoReply():
                    then = returned.then
                case Stop():
                    return returned.reason
                case _:
                    raise BadReturnError(f"a callback of {self.name} returned {returned!r}")

    async def _receive(self, then: Then) -> Any:
        if not isinstance(then, Idle):
            return await self.mailbox.get()
        self._idle_number += 1
        self._idle_timer = self.loop.call_later(then.seconds, self.mailbox.put_system, IdleOver(self._idle_number))
        try:
            return await self.mailbox.get()
        finally:
            self._idle_timer.cancel()

    def _answered(self, call: CallEnvelope, returned: Any) -> Then | Stop:
        match returned:
            case Reply():
                answer = cast("Reply[Any]", returned)
                reply(call.sender, answer.value)
                return answer.then
            case NoReply(then=then):
                return then
            case Stop():
                if returned.has_reply:
                    reply(call.sender, returned.reply)
                return returned
            case _:
                raise BadReturnError(f"handle_call of {self.name} returned {returned!r}")

    async def _other(self, item: Any) -> CastReturn:
        match item:
            case StopRequest(reason=reason):
                return Stop(reason)
            case ExitSignal(process=process, reason=reason) if process is self.parent:
                return Stop(reason)
            case SystemRequest():
                _run_request(self, item)
                return None
            case IdleOver(number=number):
                # One that is overtaken by a message comes with an old number, or when nothing is idle any more.
                if number != self._idle_number or not self.mailbox.empty():
                    return None
                item = IDLE
            case _:
                pass
        self.statistics.infos += 1
        self.last_message = item
        return await self.server.handle_info(item)

    def report(self, reason: ExitReason) -> None:
        logger.error(
            "%s crashed: %s\n  last message: %s\n  state: %s\n  restarts so far: %d",
            self.name,
            describe(reason),
            reprlib.repr(self.last_message),
            self.server.format_state(),
            self.restarts,
            exc_info=reason if isinstance(reason, BaseException) else None,
        )


def _run_request(process: GenServerProcess, request: SystemRequest) -> None:
    try:
        result = request.run(process)
    except Exception as error:  # noqa: BLE001 - it is the asker's error, who gets it
        request.sender.future.set_exception(error)
    else:
        reply(request.sender, result)


def _retrieve(future: asyncio.Future[Any]) -> None:
    """Keeps asyncio from complaining of an error that nobody is left to hear."""
    if not future.cancelled():
        future.exception()
