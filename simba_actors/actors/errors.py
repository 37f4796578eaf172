"""Every error of the kernel.

ActorError
├── NoProcessError            the server is dead or unknown
├── CallTimeoutError          no reply in time; the server may still be at work
├── CallExitError             the server exited before it replied
├── CallingSelfError          a server called or stopped itself
├── NotInAProcessError        only a process has links and monitors
├── NotAServerError           only a GenServer can be looked into
├── WrongLoopError            the process lives in another event loop
├── MailboxFullError          a bounded mailbox had no room
├── AlreadyStartedError       the child's id belongs to a living process
│   └── AlreadyRegisteredError    the name belongs to a living process
├── AlreadyPresentError       the supervisor has a stopped child of that id
├── NotAChildError            the supervisor has no such child
├── ChildRunningError         the child has to be terminated first
├── ChildRestartingError      the child is between two lives
├── MaxChildrenError          a dynamic supervisor is full
├── StartTimeoutError         init took too long
├── StartStoppedError         init stopped with a named reason
├── StartIgnoredError         init said that there is nothing to run
├── StartFailedError          a child of a supervisor did not start
├── TooManyRestartsError      why a supervisor gave up
├── UnhandledMessageError     a server has no handler for a call, cast or continuation
├── BadReturnError            a callback returned what it must not
├── StrayCancellationError    a callback awaited something that was cancelled
├── BadReasonError            an exit reason is neither an Exit nor an exception
├── BadSpecError              a flag or child specification makes no sense
└── BadTimeoutError           a timeout is no number of seconds
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any


class ActorError(Exception):
    """Base of every error of the kernel."""


class NoProcessError(ActorError):
    """The server is dead or was never there."""


class CallTimeoutError(ActorError, TimeoutError):
    """No reply came in time. A reply that comes later is dropped."""


class CallExitError(ActorError):
    """The server exited while the call waited. `reason` is its exit reason, chained where it is an exception."""

    def __init__(self, message: str, reason: Any) -> None:
        super().__init__(message)
        self.reason = reason
        if isinstance(reason, BaseException):
            self.__cause__ = reason


class CallingSelfError(ActorError):
    """A server called or stopped itself, which could never be answered."""


class NotInAProcessError(ActorError):
    """Links and monitors were asked for by code that no process runs."""


class NotAServerError(ActorError):
    """The process is a plain function, which has no state to look into."""


class WrongLoopError(ActorError):
    """The process lives in another event loop than the one that runs here, if one does. Nothing was sent."""


class MailboxFullError(ActorError):
    """A bounded mailbox had no room, and the sender did not want to wait. Nothing was sent."""


class AlreadyStartedError(ActorError):
    """The name or child id belongs to the living process `ref`."""

    def __init__(self, message: str, ref: Any) -> None:
        super().__init__(message)
        self.ref = ref


class AlreadyRegisteredError(AlreadyStartedError):
    """The name belongs to the living process `ref`."""


class AlreadyPresentError(ActorError):
    """The supervisor has a child of that id, which is not running: restart or delete it."""


class NotAChildError(ActorError):
    """The supervisor has no child of that id or ref."""


class ChildRunningError(ActorError):
    """The child is running: terminate it first."""


class ChildRestartingError(ActorError):
    """The child is being restarted: terminate it first."""


class MaxChildrenError(ActorError):
    """A dynamic supervisor has as many children as it may have, those being restarted included."""


class StartTimeoutError(ActorError, TimeoutError):
    """`init` took longer than the start timeout. Nothing is left running."""


class StartStoppedError(ActorError):
    """`init` stopped the start with the named `reason`."""

    def __init__(self, message: str, reason: Any) -> None:
        super().__init__(message)
        self.reason = reason


class StartIgnoredError(ActorError):
    """`init` said `Ignore`: there is nothing to run."""


class StartFailedError(ActorError):
    """A child did not start; those before it were stopped in reverse order. `reason` is why."""

    def __init__(self, message: str, reason: Any) -> None:
        super().__init__(message)
        self.reason = reason


class TooManyRestartsError(ActorError):
    """Why a supervisor gave up: `child` failed more often than its restart intensity allows, last for `reason`."""

    def __init__(self, message: str, child: Hashable, reason: Any) -> None:
        super().__init__(message)
        self.child = child
        self.reason = reason


class UnhandledMessageError(ActorError):
    """A server got a call, a cast or a continuation that it has no handler for."""


class BadReturnError(ActorError):
    """A callback, or a child's start function, returned something that is none of its return values."""


class StrayCancellationError(ActorError):
    """A callback awaited a task or future that was cancelled, without its own process being so.

    It is an exit reason as any other error; a bare `CancelledError` would look like a request to end.
    """


class BadReasonError(ActorError, TypeError):
    """An exit reason is neither an `Exit` nor an exception. Nobody was asked to exit."""


class BadSpecError(ActorError, ValueError):
    """A supervisor's flag or a child specification makes no sense. Nothing was started."""


class BadTimeoutError(ActorError, ValueError):
    """A timeout is neither None nor a number of seconds of at least 0. Nothing was sent."""
