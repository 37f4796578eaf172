"""GenServer: a process that keeps a state and answers messages one at a time."""

from __future__ import annotations

import reprlib
from collections.abc import Hashable
from typing import Any, ClassVar, Generic, TypeVar

from simba_actors.actors.callers import From
from simba_actors.actors.errors import UnhandledMessageError
from simba_actors.actors.exits import ExitReason
from simba_actors.actors.process import current_process, logger
from simba_actors.actors.ref import OwningRef, Ref
from simba_actors.actors.registry import Registry
from simba_actors.actors.returns import IDLE, CallReturn, CastReturn, InitReturn
from simba_actors.actors.server_process import ServerProcess

S = TypeVar("S")


class GenServer(Generic[S]):
    """Base of servers with a state of type S.

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

    Arguments of `start` that it does not name itself go to the class's `__init__`, which only keeps them; work is done
    in `init`, inside the new process. Callbacks run one at a time, so the state needs no lock. One that raises ends the
    server with that error as the exit reason; every waiting caller gets it at once.
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
            Idle(seconds): Up; `handle_info(IDLE)` runs if no message comes in that time. Every message ends it.
            Ignore(): Nothing to run: start raises StartIgnoredError, and a supervisor goes on without this child.
            Stop(reason): Start fails: with the reason where it is an exception, otherwise with StartStoppedError.
            Anything else: Start fails with BadReturnError. So it does with what `init` raises.
        """
        return None

    async def handle_call(self, message: Any, sender: From[Any]) -> CallReturn:
        """Answers a call.

        Returns:
            Reply(value): `value` goes to the caller, and the server lives on.
            Reply(value, then=Continue(token)): So it does; `handle_continue(token)` runs before any message.
            Reply(value, then=Idle(seconds)): So it does; `handle_info(IDLE)` runs if no message comes in that time.
            NoReply(): The server lives on; the reply comes later, by `reply(sender, value)`. `then=` as with Reply.
            Stop(reason, reply=value): `value` goes to the caller; then `terminate` runs, and the server exits.
            Stop(reason): The same without an answer: the caller gets a CallExitError with the reason.
            Anything else: The server exits with BadReturnError. So it does, with UnhandledMessageError, by default.
        """
        raise UnhandledMessageError(f"{type(self).__name__} has no answer to the call {reprlib.repr(message)}")

    async def handle_cast(self, message: Any) -> CastReturn:
        """Handles a cast.

        Returns:
            None or NoReply(): The server lives on.
            Continue(token), or NoReply(Continue(token)): So it does; `handle_continue(token)` runs before any message.
            Idle(seconds), or NoReply(Idle(seconds)): So it does; `handle_info(IDLE)` runs if no message comes in time.
            Stop(reason): `terminate` runs, and the server exits with the reason.
            Anything else: The server exits with BadReturnError. So it does, with UnhandledMessageError, by default.
        """
        raise UnhandledMessageError(f"{type(self).__name__} does not know the cast {reprlib.repr(message)}")

    async def handle_info(self, message: Any) -> CastReturn:
        """Handles everything else: what `ref.send` sent, `IDLE`, `ExitSignal`, `Down`.

        Returns:
            None or NoReply(): The server lives on. By default it does, and logs a warning of all but `IDLE`.
            Continue(token), or NoReply(Continue(token)): `handle_continue(token)` runs before any message.
            Idle(seconds), or NoReply(Idle(seconds)): `handle_info(IDLE)` runs if no message comes in that time.
            Stop(reason): `terminate` runs, and the server exits with the reason.
            Anything else: The server exits with BadReturnError.
        """
        if message is not IDLE:
            logger.warning("%s got a message it does not know: %s", type(self).__name__, reprlib.repr(message))
        return None

    async def handle_continue(self, token: Any) -> CastReturn:
        """Goes on after a callback that returned `Continue(token)`: for work that nobody has to wait for.

        Returns:
            None or NoReply(): The server turns to its messages.
            Continue(token), or NoReply(Continue(token)): `handle_continue(token)` runs next.
            Idle(seconds), or NoReply(Idle(seconds)): `handle_info(IDLE)` runs if no message comes in that time.
            Stop(reason): `terminate` runs, and the server exits with the reason.
            Anything else: The server exits with BadReturnError. So it does, with UnhandledMessageError, by default.
        """
        raise UnhandledMessageError(f"{type(self).__name__} does not know how to continue with {reprlib.repr(token)}")

    async def terminate(self, reason: ExitReason) -> None:
        """Cleans up before the exit, for whatever reason, but not when the server itself is killed.

        Returns:
            None: The server exits with `reason`. With what is raised here, if anything is.
        """

    def format_state(self) -> str:
        """The state as crash reports show it. Override it to mask secrets."""
        return reprlib.repr(self.state)

    def format_message(self, message: Any) -> str:
        """A message as crash reports show it. Override it to mask secrets."""
        return reprlib.repr(message)

    @property
    def ref(self) -> Ref:
        """This server's own ref, to hand out. Known from `init` on."""
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
        """A new server on its own. Keep the ref, or name it in a registry: who drops it gets a ResourceWarning.

        Args:
            name: What it is called in reports, and its key in `registry`.
            registry: Where it can be found by its name while it lives.
            timeout: Seconds that `init` may take; None is no limit.

        Raises:
            AlreadyRegisteredError: The name belongs to a living server, whose ref the error carries.
            StartTimeoutError: `init` took too long; nothing is left running.
            BaseException: What `init` raised, or stopped with where that is an exception.
            StartStoppedError: `init` stopped with a named reason.
            StartIgnoredError: `init` said Ignore.
            BadSpecError: There is a registry, but no name.
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
        """As `start`, linked to the process that calls it, its parent.

        An abnormal end of the child ends the parent too, unless that traps exits. The child ends with its parent,
        whatever the reason.
        """
        process = ServerProcess(cls(*args, **kwargs), name)
        process.parent = current_process()
        await process.start(name, registry, timeout)
        return Ref(process)
