"""GenServer: a process that keeps a state and handles messages one at a time."""

from __future__ import annotations

import reprlib
from collections.abc import Hashable
from typing import Any, ClassVar, Generic, TypeVar

from simba_actors.actors.calls import From
from simba_actors.actors.errors import UnhandledMessageError
from simba_actors.actors.exits import ExitReason
from simba_actors.actors.process import current_process, logger
from simba_actors.actors.ref import OwningRef, Ref, Registry
from simba_actors.actors.returns import IDLE, CallReturn, CastReturn, InitReturn
from simba_actors.actors.server_process import ServerProcess

S = TypeVar("S")


class GenServer(Generic[S]):
    """Base class of servers with a state of type S.

    >>> import asyncio
    >>> from dataclasses import dataclass
    >>> from simba_actors.actors import Call, GenServer, Reply
    >>> @dataclass(frozen=True, slots=True)
    ... class Increment(Call[int]):
    ...     by: int = 1
    >>> class Counter(GenServer[int]):
    ...     async def init(self):
    ...         self.state = 0
    ...     async def handle_call(self, message, sender):
    ...         match message:
    ...             case Increment(by=by):
    ...                 self.state += by
    ...                 return Reply(self.state)
    ...             case _:
    ...                 return await super().handle_call(message, sender)
    >>> async def main():
    ...     counter = await Counter.start()
    ...     print(await counter.call(Increment(2)))
    ...     await counter.stop()
    >>> asyncio.run(main())
    2

    `start` passes arguments it does not know to the class's `__init__`, which only stores them. `init` does the work,
    inside the new process. Callbacks run one at a time, so the state needs no lock. If a callback raises, the server
    exits with that exception as the reason, and all waiting callers get it at once.
    """

    state: S
    """The server's state. Only its own callbacks touch it."""

    mailbox_size: ClassVar[int] = 0
    """Maximum number of ordinary messages in the mailbox; 0 means no bound."""

    trap_exit: ClassVar[bool] = False
    """Whether exit signals of linked processes arrive in `handle_info` as `ExitSignal`.

    A server that traps exits also finishes the callback that is running before it shuts down. Other servers exit at
    their next await.
    """

    async def init(self) -> InitReturn:
        """Set `self.state`. `start` returns when this is done.

        Returns:
            None: The server is running.
            Continue(token): The server is running. `handle_continue(token)` runs before the first message.
            Idle(seconds): The server is running. `handle_info(IDLE)` runs unless a message arrives within `seconds`.
                Every message ends the idle time.
            Ignore(): The server does not run. `start` raises StartIgnoredError, and a supervisor skips this child.
            Stop(reason): The start fails. `start` raises `reason` if it is an exception, or else StartStoppedError.
            Anything else: The start fails with BadReturnError. If `init` raises, the start fails with that exception.
        """
        return None

    async def handle_call(self, message: Any, sender: From[Any]) -> CallReturn:
        """Handle a call. The default raises UnhandledMessageError.

        Returns:
            Reply(value): The caller gets `value`.
            Reply(value, then=Continue(token)): The same, and `handle_continue(token)` runs before the next message.
            Reply(value, then=Idle(seconds)): The same, and `handle_info(IDLE)` runs unless a message arrives in time.
            NoReply(): The caller waits until `reply(sender, value)`, or until its timeout. `then` works as in Reply.
            Stop(reason, reply=value): The caller gets `value`. Then `terminate` runs and the server exits.
            Stop(reason): `terminate` runs and the server exits. The caller gets a CallExitError with the reason.
            Anything else: The server exits with BadReturnError.
        """
        raise UnhandledMessageError(f"{type(self).__name__} does not handle the call {reprlib.repr(message)}")

    async def handle_cast(self, message: Any) -> CastReturn:
        """Handle a cast. The default raises UnhandledMessageError.

        Returns:
            None or NoReply(): The server waits for the next message.
            Continue(token) or NoReply(Continue(token)): `handle_continue(token)` runs before the next message.
            Idle(seconds) or NoReply(Idle(seconds)): `handle_info(IDLE)` runs unless a message arrives in time.
            Stop(reason): `terminate` runs and the server exits.
            Anything else: The server exits with BadReturnError.
        """
        raise UnhandledMessageError(f"{type(self).__name__} does not handle the cast {reprlib.repr(message)}")

    async def handle_info(self, message: Any) -> CastReturn:
        """Handle all other messages: those of `ref.send`, `IDLE`, `ExitSignal` and `Down`.

        The default ignores `IDLE` and logs a warning for everything else.

        Returns:
            None or NoReply(): The server waits for the next message.
            Continue(token) or NoReply(Continue(token)): `handle_continue(token)` runs before the next message.
            Idle(seconds) or NoReply(Idle(seconds)): `handle_info(IDLE)` runs unless a message arrives in time.
            Stop(reason): `terminate` runs and the server exits.
            Anything else: The server exits with BadReturnError.
        """
        if message is not IDLE:
            logger.warning("%s ignored an unknown message: %s", type(self).__name__, reprlib.repr(message))
        return None

    async def handle_continue(self, token: Any) -> CastReturn:
        """Do work that no caller should wait for, after a callback returned `Continue(token)`.

        The default raises UnhandledMessageError.

        Returns:
            None or NoReply(): The server waits for the next message.
            Continue(token) or NoReply(Continue(token)): `handle_continue(token)` runs next.
            Idle(seconds) or NoReply(Idle(seconds)): `handle_info(IDLE)` runs unless a message arrives in time.
            Stop(reason): `terminate` runs and the server exits.
            Anything else: The server exits with BadReturnError.
        """
        raise UnhandledMessageError(f"{type(self).__name__} does not handle the continuation {reprlib.repr(token)}")

    async def terminate(self, reason: ExitReason) -> None:
        """Clean up before the server exits. Does not run if the server is killed.

        Returns:
            None: The server exits with `reason`. If `terminate` raises, it exits with that exception instead.
        """

    def format_state(self) -> str:
        """Return the state as text for crash reports. Override it to mask secrets."""
        return reprlib.repr(self.state)

    def format_message(self, message: Any) -> str:
        """Return a message as text for crash reports. Override it to mask secrets."""
        return reprlib.repr(message)

    @property
    def ref(self) -> Ref:
        """This server's own ref, available from `init` on."""
        return Ref(self._process)

    _process: ServerProcess

    @classmethod
    async def start(
        cls,
        *args: Any,
        name: Hashable = None,
        registry: Registry | None = None,
        timeout: float | None = None,
        **kwargs: Any,
    ) -> Ref:
        """Start a server without a link to any process, and return its ref.

        Keep the ref or register a name: dropping the last ref of a running server is a ResourceWarning.

        Args:
            name: The server's name in log records and errors, and its key in `registry`.
            registry: Where others find the server by its name.
            timeout: Seconds that `init` may take; None means no limit.

        Raises:
            AlreadyRegisteredError: A living server has this name. The error carries its ref.
            StartTimeoutError: `init` took too long. Nothing is left running.
            StartStoppedError: `init` returned `Stop` with a named reason.
            StartIgnoredError: `init` returned `Ignore`.
            BadSpecError: `registry` is given without a name.
            BaseException: Whatever `init` raised, or the exception it returned in `Stop`.
        """
        process = ServerProcess(cls(*args, **kwargs), name)
        await process.start(name, registry, timeout)
        return OwningRef(process) if registry is None else Ref(process)

    @classmethod
    async def start_link(
        cls,
        *args: Any,
        name: Hashable = None,
        registry: Registry | None = None,
        timeout: float | None = None,
        **kwargs: Any,
    ) -> Ref:
        """Start a server that is linked to the current process, its parent, and return its ref.

        The arguments and errors are those of `start`. If the server exits abnormally, its parent exits too, unless it
        traps exits. If the parent exits, for whatever reason, so does the server.
        """
        process = ServerProcess(cls(*args, **kwargs), name)
        process.parent = current_process()
        await process.start(name, registry, timeout)
        return Ref(process)
