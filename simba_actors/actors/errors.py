"""All errors of the actor kernel.

ActorError
├── NoProcessError            the process is dead or unknown
├── CallTimeoutError          no reply in time; the server may still be working on it
├── CallExitError             the server exited before it replied
├── CallingSelfError          a server called or stopped itself
├── NotInAProcessError        link or monitor was called outside a process
├── NotAServerError           the process is not a GenServer
├── WrongLoopError            the process belongs to another event loop
├── MailboxFullError          a bounded mailbox is full
├── AlreadyStartedError       a running child has this id
│   └── AlreadyRegisteredError    a living process has this name
├── AlreadyPresentError       a stopped child has this id
├── NotAChildError            the supervisor has no such child
├── ChildRunningError         the child must be terminated first
├── ChildRestartingError      the child is waiting for its restart
├── MaxChildrenError          a dynamic supervisor is full
├── StartTimeoutError         init took too long
├── StartStoppedError         init stopped with a named reason
├── StartIgnoredError         init returned Ignore
├── StartFailedError          a child of a supervisor did not start
├── TooManyRestartsError      the reason why a supervisor gave up
├── UnhandledMessageError     a server has no handler for a call, cast or continuation
├── BadReturnError            a callback returned something invalid
├── StrayCancellationError    a callback awaited something that was cancelled
├── BadReasonError            an exit reason is neither an Exit nor an exception
├── BadSpecError              a flag or child specification is invalid
└── BadTimeoutError           a timeout is not a number of seconds
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any


class ActorError(Exception):
    """Base of all errors of the actor kernel."""


class NoProcessError(ActorError):
    """The process is dead, or no process has this name."""


class CallTimeoutError(ActorError, TimeoutError):
    """No reply arrived in time. A later reply is dropped."""


class CallExitError(ActorError):
    """The server exited while the call waited. An exception as the reason is also the `__cause__`."""

    def __init__(self, message: str, reason: Any) -> None:
        super().__init__(message)
        self.reason = reason
        """The server's exit reason."""
        if isinstance(reason, BaseException):
            self.__cause__ = reason


class CallingSelfError(ActorError):
    """A server called, stopped or waited for itself, which would never return."""


class NotInAProcessError(ActorError):
    """`link`, `unlink`, `monitor` or `demonitor` was called outside a process."""


class NotAServerError(ActorError):
    """The process is a spawned function, which has no state to look at."""


class WrongLoopError(ActorError):
    """The process belongs to another event loop than the running one. Nothing was sent."""


class MailboxFullError(ActorError):
    """The bounded mailbox is full and the sender does not wait. Nothing was sent."""


class AlreadyStartedError(ActorError):
    """A running child has this id."""

    def __init__(self, message: str, ref: Any) -> None:
        super().__init__(message)
        self.ref = ref
        """The ref of the living process."""


class AlreadyRegisteredError(AlreadyStartedError):
    """A living process has this name. `ref` is its ref."""


class AlreadyPresentError(ActorError):
    """The supervisor has a stopped child with this id: restart or delete it."""


class NotAChildError(ActorError):
    """The supervisor has no child with this id or ref."""


class ChildRunningError(ActorError):
    """The child is running: terminate it first."""


class ChildRestartingError(ActorError):
    """The child is waiting for its restart: terminate it first."""


class MaxChildrenError(ActorError):
    """A dynamic supervisor has `max_children` children. Children that are restarting count."""


class StartTimeoutError(ActorError, TimeoutError):
    """`init` took longer than the start timeout. Nothing is left running."""


class StartStoppedError(ActorError):
    """`init` stopped the start with a named reason."""

    def __init__(self, message: str, reason: Any) -> None:
        super().__init__(message)
        self.reason = reason
        """The `Exit` that `init` stopped with."""


class StartIgnoredError(ActorError):
    """`init` returned `Ignore`."""


class StartFailedError(ActorError):
    """A child did not start. The children that had started were stopped in reverse order."""

    def __init__(self, message: str, reason: Any) -> None:
        super().__init__(message)
        self.reason = reason
        """The error that the child's start raised."""


class TooManyRestartsError(ActorError):
    """A supervisor gave up, because a child failed more often than its restart intensity allows."""

    def __init__(self, message: str, child: Hashable, reason: Any) -> None:
        super().__init__(message)
        self.child = child
        """The id of the child that failed last."""
        self.reason = reason
        """The exit reason."""


class UnhandledMessageError(ActorError):
    """A server got a call, cast or continuation that it has no handler for."""


class BadReturnError(ActorError):
    """A callback or a child's start function returned something invalid."""


class StrayCancellationError(ActorError):
    """A callback awaited a task or future that was cancelled, while its own process was not.

    It is an exit reason like any other error. A bare `CancelledError` would look like a request to exit.
    """


class BadReasonError(ActorError, TypeError):
    """An exit reason is neither an `Exit` nor an exception. Nothing was sent."""


class BadSpecError(ActorError, ValueError):
    """A supervisor's flag or a child specification is invalid. Nothing was started."""


class BadTimeoutError(ActorError, ValueError):
    """A timeout is neither None nor a number of seconds of at least 0. Nothing was sent."""
