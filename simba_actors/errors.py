"""Every error that simba_actors raises to its users.

SimbaError
├── ConfigError                    a setting is missing, out of range or contradicts another
├── UnsupportedDSPyError           the installed DSPy is not one that this version supports
├── MissingExtraError              an optional dependency is not installed
├── StudentError                   a student that cannot be optimized
│   ├── NoPredictorsError          it has no predictors
│   ├── MisfitError                a configuration was made for another student
│   └── NotJSONError               a value is not plain JSON
├── StoreError                     the database file cannot be used
│   ├── NotAStoreError             it is not a database, or is another program's
│   ├── StoreVersionError          a newer version of the package wrote it
│   ├── StoreDamagedError          it is truncated or corrupt
│   ├── StoreReadOnlyError         it must not be written
│   ├── StoreLockedError           another writer holds it
│   └── StoreFullError             the disk is full
├── RunError                       a run cannot start, continue or end as requested
│   ├── UnknownRunError            the store has no run of that name
│   ├── RunOwnedError              a living process has it open
│   ├── LeaseLostError             another process has taken it over
│   ├── FingerprintMismatchError   it was started with another student, trainset or settings
│   ├── NoLMError                  no LM is set for the student
│   ├── BudgetReachedError         a cap of its budget keeps a call from being sent
│   ├── RunStoppedError            it was stopped before it had a result
│   ├── RunPausedError             it is paused for a reason that waiting does not remove
│   ├── RunningLoopError           a sync call was made inside a running event loop
│   └── NoEventLoopError           an async call was made outside of an asyncio event loop
├── PublicationError               a version cannot be published, restored or reported on as requested
│   ├── VersionConflictError       another publisher was first
│   ├── UnknownChannelError        nothing was ever published to it
│   ├── UnknownVersionError        the channel has no version of that number
│   ├── PrunedVersionError         the version was pruned
│   ├── UnknownProgramError        the run has no program of that number
│   └── UnknownCallError           the text is not the id of a call
├── MetricError                    the metric raised, or did not return a score
├── StopperError                   `stop_when` raised, or did not return an answer
├── PromptTooLongError             the prompt model refused a prompt that exceeds its context window
├── ReplyCutOffError               a reply of the prompt model ended at its token limit
├── AdviceTooLongError             the prompt model wrote more advice than an instruction can take
└── InfrastructureError            an LM could not be reached; never scored
    ├── LMAccessError              it refused the key, the account or the model's name
    │   └── CallRejectedError      it rejected one call for an unknown reason, or failed in its own code
    ├── LMUnavailableError         it did not answer, or only with faults
    ├── UnknownUsageError          it does not report usage, so that a cap can't be kept
    ├── StudentUnreachableError    a student in another process does not answer
    ├── InterpreterError           the student's code interpreter can't run
    └── RolloutTimeoutError        a rollout exceeded `rollout_timeout`
"""

from __future__ import annotations


class SimbaError(Exception):
    """Base class of all errors of simba_actors."""


class ConfigError(SimbaError, ValueError):
    """A setting is missing, out of range, or contradicts another. The message names it and the allowed values."""


class UnsupportedDSPyError(SimbaError):
    """The installed DSPy lacks something that this package uses. The message names it and the supported versions."""


class MissingExtraError(SimbaError, ImportError):
    """An optional dependency is not installed. The message names the extra that installs it."""


class StudentError(SimbaError, ValueError):
    """The student cannot be optimized, or a configuration does not fit it. The message names the predictor."""


class NoPredictorsError(StudentError):
    """The student has no predictors."""


class MisfitError(StudentError):
    """A configuration does not fit the student. The message names the predictor or variable."""


class NotJSONError(StudentError):
    """A value of a configuration is not plain JSON."""


class StoreError(SimbaError):
    """The store's file cannot be opened, read or written. The message names the file, the cause and the remedy."""


class NotAStoreError(StoreError):
    """The file is not an SQLite database, or another program made it."""


class StoreVersionError(StoreError):
    """A newer version of simba_actors wrote the file."""


class StoreDamagedError(StoreError):
    """The file is truncated or corrupt."""


class StoreReadOnlyError(StoreError):
    """The file or its directory must not be written."""


class StoreLockedError(StoreError):
    """Another writer has locked the file. The same write can be tried again."""


class StoreFullError(StoreError):
    """The disk is full. The same write can be tried again when there is room."""


class RunError(SimbaError):
    """A run cannot start, continue or end as requested."""


class UnknownRunError(RunError):
    """The store has no run of that name."""


class RunOwnedError(RunError):
    """Another living process has the run open."""

    def __init__(self, message: str, pid: int, host: str) -> None:
        super().__init__(message)
        self.pid = pid
        """Process id of the owner."""
        self.host = host
        """The host of that process."""


class LeaseLostError(RunError):
    """Another process has taken over the run, so this one must not write to it any more."""


class FingerprintMismatchError(RunError):
    """The stored run was started with another student, trainset, metric or settings."""

    def __init__(self, message: str, differing: tuple[str, ...]) -> None:
        super().__init__(message)
        self.differing = differing
        """The names of the settings that differ."""


class NoLMError(RunError):
    """No LM is set for the student."""


class BudgetReachedError(RunError):
    """A cap of the run's budget prevents an LM call. It is raised inside students, not to callers of this package."""

    def __init__(self, message: str, cap: str) -> None:
        super().__init__(message)
        self.cap = cap
        """The name of the cap, such as "max_calls"."""


class RunStoppedError(RunError):
    """The run was stopped before it had a result. It continues when it is started again on the same store."""


class RunPausedError(RunError):
    """The run is paused for a reason that waiting does not remove, and no one is there to resume it.

    Remove the reason, then resume the run, or start it again on the same store.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason
        """Why the run is paused."""


class RunningLoopError(RunError, RuntimeError):
    """A call that runs its own event loop was made inside a running one. Await the async method instead."""


class NoEventLoopError(RunError, RuntimeError):
    """A call that needs an asyncio event loop was made without one, for example in a trio task."""


class PublicationError(SimbaError):
    """A version cannot be published, restored or reported on as requested. What is served does not change."""


class VersionConflictError(PublicationError):
    """The channel is at another version than the publisher expected: look at that version first."""

    def __init__(self, message: str, current: int) -> None:
        super().__init__(message)
        self.current = current
        """The channel's newest version."""


class UnknownChannelError(PublicationError):
    """The channel has no versions, since nothing was ever published to it."""


class UnknownVersionError(PublicationError):
    """The channel has no version of that number."""


class PrunedVersionError(PublicationError):
    """The configuration of the version was deleted by `prune`."""


class UnknownProgramError(PublicationError):
    """The run has no program of that number."""


class UnknownCallError(PublicationError, ValueError):
    """The text is not the id of a call."""


class MetricError(SimbaError):
    """The metric raised, or returned something that is not a number. The cause, if any, is chained."""


class StopperError(SimbaError):
    """`stop_when` raised, or returned something that is not an answer. The cause, if any, is chained."""


class PromptTooLongError(SimbaError):
    """The prompt model refused a prompt that exceeds its context window."""


class ReplyCutOffError(SimbaError):
    """A reply of the prompt model ended at its token limit, also when it was asked again with more room."""


class AdviceTooLongError(SimbaError):
    """The prompt model wrote more advice for a predictor than an instruction can take. The message names the limit."""


class InfrastructureError(SimbaError):
    """An LM could not be reached, refused the request for now, or did not answer in time. Never counts as a score."""

    def __init__(self, *args: object, endpoint: str | None = None) -> None:
        super().__init__(*args)
        self.endpoint = endpoint
        """Name of the endpoint that failed, if it is known."""


class LMAccessError(InfrastructureError):
    """An LM refused the key, the account or the model's name. Waiting does not help."""


class CallRejectedError(LMAccessError):
    """An LM rejected a call for an unknown reason, or failed in its own code. It may answer other calls."""


class LMUnavailableError(InfrastructureError):
    """An LM did not answer, or only with faults, for longer than the grace period."""


class UnknownUsageError(InfrastructureError):
    """An LM does not report what its calls cost or use, so that a cap on that can't be kept."""


class StudentUnreachableError(InfrastructureError):
    """A student in another process does not answer. The message names the addresses and the cause."""


class InterpreterError(InfrastructureError):
    """The interpreter of a student that runs code, such as dspy.ProgramOfThought, can't run: Deno may be missing."""


class RolloutTimeoutError(InfrastructureError):
    """A rollout took longer than `rollout_timeout`."""
