"""Every error of the kernel.

ActorError
├── NoProcessError            the server is dead or unknown
├── CallTimeoutError          no reply in time; the server may still be at work
├── CallExitError             the server exited before it replied
├── CallingSelfError          a server called or stopped itself
├── MailboxFullError          a bounded mailbox had no room
├── AlreadyStartedError       the name belongs to a living server
├── AlreadyPresentError       the supervisor has a stopped child of that id
├── NotAChildError            the supervisor has no child of that id
├── ChildRunningError         the child has to be terminated first
├── ChildRestartingError      the child is between two lives
├── MaxChildrenError          a dynamic supervisor is full
├── StartTimeoutError         init took too long
├── StartStoppedError         init stopped with a named reason
├── StartFailedError          a child of a supervisor did not start
├── BadReturnError            a callback returned what it must not
└── BadSpecError              a flag or child specification makes no sense
"""

from __future__ import annotations

from typing import Any


class ActorError(Exception):
    """Base of every error of the kernel."""


class NoProcessError(ActorError):
    """The server is dead or was never there."""


class CallTimeoutError(ActorError, TimeoutError):
    """No reply came in time. A reply that comes later is dropped."""


class CallExitError(ActorError):
    """The server exited while the call waited. `reason` is its exit reason."""

    def __init__(self, message: str, reason: Any) -> None:
        super().__init__(message)
        self.reason = reason


class CallingSelfError(ActorError):
    """A server called or stopped itself, which could never be answered."""


class MailboxFullError(ActorError):
    """A bounded mailbox had no room, and the sender did not want to wait. Nothing was sent."""


class AlreadyStartedError(ActorError):
    """The name or child id belongs to the living server `ref`."""

    def __init__(self, message: str, ref: Any) -> None:
        super().__init__(message)
        self.ref = ref


class AlreadyPresentError(ActorError):
    """The supervisor has a child of that id, which is not running: restart or delete it."""


class NotAChildError(ActorError):
    """The supervisor has no child of that id."""


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


class StartFailedError(ActorError):
    """A child did not start; those before it were stopped in reverse order. `reason` is why."""

    def __init__(self, message: str, reason: Any) -> None:
        super().__init__(message)
        self.reason = reason


class BadReturnError(ActorError):
    """A callback returned something that is none of its return values."""


class BadSpecError(ActorError, ValueError):
    """A supervisor's flag or a child specification makes no sense. Nothing was started."""
