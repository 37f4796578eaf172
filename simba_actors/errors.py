"""Every error that a user of simba_actors can meet.

SimbaError
├── ConfigError                    an OptimizerConfig that cannot run
├── UnsupportedDSPyError           the installed DSPy is one that this version does not know
├── StudentError                   a student that cannot be optimized
│   ├── NoPredictorsError          there is nothing in it to optimize
│   ├── MisfitError                a configuration for another student
│   └── NotJSONError               a value that can't be kept
├── StoreError                     the database file cannot be used
│   ├── NotAStoreError             it is no database, or another program's
│   ├── StoreVersionError          a newer version of the package wrote it
│   ├── StoreDamagedError          parts of it are gone
│   ├── StoreReadOnlyError         it may not be written
│   ├── StoreLockedError           another writer holds it
│   └── StoreFullError             there is no room for it to grow
├── RunError                       a run cannot start, go on or end as asked
│   ├── UnknownRunError            the store has no run of that name
│   ├── RunOwnedError              a living process has it open
│   ├── LeaseLostError             another process has taken it over
│   ├── FingerprintMismatchError   it was started with another student, trainset or settings
│   ├── NoLMError                  there is no LM to run the student with
│   ├── BudgetReachedError         a cap of its budget keeps a call from being sent
│   ├── RunStoppedError            it was stopped before it had a result
│   └── RunningLoopError           compile() was called inside a running event loop
├── PublicationError               a version cannot be published, brought back or reported on as asked
│   ├── VersionConflictError       another publisher was first
│   ├── UnknownChannelError        nothing was ever published to it
│   ├── UnknownVersionError        the channel has no version of that number
│   ├── PrunedVersionError         the version's configuration was let go
│   ├── UnknownProgramError        the run has no program of that number
│   └── UnknownCallError           what was given as the id of a call is none
├── MetricError                    the metric raised, or returned what is no score
├── StopperError                   `stop_when` raised, or returned no verdict
├── PromptTooLongError             the prompt model refused a prompt that exceeds its context window
├── ReplyCutOffError               a reply of the prompt model ended at its token limit
└── InfrastructureError            an LM could not be reached; never a score
    ├── LMAccessError              it refused the key, the account or the model's name
    ├── LMUnavailableError         it did not answer, or only with faults
    ├── UnknownUsageError          it does not say what its calls use, so that a cap can't be kept
    ├── InterpreterError           the student's code interpreter can't run
    └── RolloutTimeoutError        a rollout took longer than it may
"""

from __future__ import annotations


class SimbaError(Exception):
    """Base of every error raised by simba_actors."""


class ConfigError(SimbaError, ValueError):
    """A setting is missing, out of range, or does not fit the others. The message names it and what it may be."""


class UnsupportedDSPyError(SimbaError):
    """The installed DSPy lacks something that this package uses of it. The message names it and the versions to use."""


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
    """The file is no SQLite database, or one that another program made."""


class StoreVersionError(StoreError):
    """A newer version of simba_actors wrote the file."""


class StoreDamagedError(StoreError):
    """The file is truncated or corrupt."""


class StoreReadOnlyError(StoreError):
    """The file or its directory may not be written."""


class StoreLockedError(StoreError):
    """Another writer holds the file. The same write can be tried again."""


class StoreFullError(StoreError):
    """There is no room for the file to grow. The same write can be tried again."""


class RunError(SimbaError):
    """A run cannot start, go on or end as asked."""


class UnknownRunError(RunError):
    """The store has no run of that name."""


class RunOwnedError(RunError):
    """A living process, `pid` on `host`, has the run open."""

    def __init__(self, message: str, pid: int, host: str) -> None:
        super().__init__(message)
        self.pid = pid
        self.host = host


class LeaseLostError(RunError):
    """Another process has taken the run over, so this one may not write to it any more."""


class FingerprintMismatchError(RunError):
    """The stored run was started with another student, trainset, metric or settings; `differing` names what."""

    def __init__(self, message: str, differing: tuple[str, ...]) -> None:
        super().__init__(message)
        self.differing = differing


class NoLMError(RunError):
    """There is no LM to run the student with."""


class BudgetReachedError(RunError):
    """A cap of the run's budget, named `cap`, keeps an LM call from being sent. Students meet it, not callers."""

    def __init__(self, message: str, cap: str) -> None:
        super().__init__(message)
        self.cap = cap


class RunStoppedError(RunError):
    """The run was stopped before it had a result. Started again on the same store, it goes on."""


class RunPausedError(RunError):
    """The run is paused for something that waiting does not mend, and nobody waits to resume it.

    `reason` says why. Put that right, then resume the run, or start it again on the same store.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class RunningLoopError(RunError, RuntimeError):
    """A call that runs an event loop of its own was made inside a running one."""


class PublicationError(SimbaError):
    """A version cannot be published, brought back or reported on as asked. What is served goes on being served."""


class VersionConflictError(PublicationError):
    """The channel is at another version, `current`, than the publisher expected: look at that one first."""

    def __init__(self, message: str, current: int) -> None:
        super().__init__(message)
        self.current = current


class UnknownChannelError(PublicationError):
    """Nothing was ever published to the channel."""


class UnknownVersionError(PublicationError):
    """The channel has no version of that number."""


class PrunedVersionError(PublicationError):
    """The configuration of the version was let go by `prune`."""


class UnknownProgramError(PublicationError):
    """The run has no program of that number."""


class UnknownCallError(PublicationError, ValueError):
    """What was given as the id of a call does not look like one."""


class MetricError(SimbaError):
    """The metric raised, or returned something that is no number. The cause, if any, is chained."""


class StopperError(SimbaError):
    """`stop_when` raised, or returned something that is no verdict. The cause, if any, is chained."""


class PromptTooLongError(SimbaError):
    """The prompt model refused a prompt that exceeds its context window."""


class ReplyCutOffError(SimbaError):
    """A reply of the prompt model ended at its token limit, also when it was asked again with more room."""


class InfrastructureError(SimbaError):
    """An LM could not be reached, refused the request for now, or did not answer in time. Never counts as a score."""


class LMAccessError(InfrastructureError):
    """An LM refused the key, the account or the model's name: waiting does not mend that."""


class LMUnavailableError(InfrastructureError):
    """An LM did not answer, or only with faults, for longer than patience lasts."""


class UnknownUsageError(InfrastructureError):
    """An LM does not say what its calls cost or use, so that a cap on that can't be kept."""


class InterpreterError(InfrastructureError):
    """The interpreter of a student that runs code, such as dspy.ProgramOfThought, can't run: Deno is missing, say."""


class RolloutTimeoutError(InfrastructureError):
    """A rollout took longer than `rollout_timeout`."""
