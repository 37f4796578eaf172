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
            Ignore(): Nothing to run: start raises StartIgnoredError, and a supervisor goes on without this child.
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
        raise UnhandledMessageError(f"{type(self).__name__} has no answer to the call {reprlib.repr(message)}")

    async def handle_cast(self, message: Any) -> CastReturn:
        """Handles a cast.

        Returns:
            None or NoReply(): Live on; `NoReply(then=…)`, a Continue or an Idle as in `init`.
            Stop(reason): `terminate` and exit.
        """
        raise UnhandledMessageError(f"{type(self).__name__} does not know the cast {reprlib.repr(message)}")

    async def handle_info(self, message: Any) -> CastReturn:
        """Handles everything else: what `ref.send` sent, `IDLE`, `ExitSignal`, `Down`. Returns as `handle_cast` does.

        By default it logs a warning and lives on.
        """
        if message is not IDLE:
            logger.warning("%s got a message it does not know: %s", type(self).__name__, reprlib.repr(message))
        return None

    async def handle_continue(self, token: Any) -> CastReturn:
        """Goes on after a callback that returned `Continue(token)`. Returns as `handle_cast` does."""
        raise UnhandledMessageError(f"{type(self).__name__} does not know how to continue with {reprlib.repr(token)}")

    async def terminate(self, reason: ExitReason) -> None:
        """Cleans up before the exit, for whatever reason but `KILLED`. What it raises becomes the exit reason."""

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
