"""Messages between the optimizer's process and its workers, as plain data."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

from simba_actors import errors
from simba_actors.errors import BudgetReachedError, InfrastructureError, SimbaError
from simba_actors.lm.budget import UNKNOWN, CallSize
from simba_actors.lm.retry import FailedCall
from simba_actors.lm.secrets import Secrets
from simba_actors.programs import Configuration
from simba_actors.search.rollout import ModelSpec, Split, Trajectory

CONFIGURATIONS_KEPT = 256
"""Maximum number of configurations that a worker keeps. One that it has is not sent again."""


class SentError(NamedTuple):
    """An error on its way to another process."""

    kind: str
    """Name of its class."""
    message: str
    """Its message, without secrets."""
    cap: str | None
    """The budget's cap, for a BudgetReachedError."""
    trace: str
    """Its traceback as text, without secrets; empty if it says nothing that the message does not."""
    endpoint: str | None = None
    """The endpoint that failed, for an InfrastructureError."""


class WorkerTracebackError(Exception):
    """Shows where in a worker an error was raised, as the `__cause__` of that error."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


# ── to a worker ──────────────────────────────────────────────────────────────────────────────────────────────────────


class Run(NamedTuple):
    """Run a rollout."""

    number: int
    digest: str
    configuration: Configuration | None
    """None if the worker has the configuration of that digest."""
    example: int
    split: Split
    model: ModelSpec


class TryMetric(NamedTuple):
    """Try the metric on an example."""

    number: int


class Cancel(NamedTuple):
    """End a rollout whose result is not wanted any more."""

    number: int


class Reply(NamedTuple):
    """The call is leased, or may be made again; with an error, it is not to be made."""

    number: int
    error: SentError | None


ToWorker: TypeAlias = Run | TryMetric | Cancel | Reply


# ── from a worker ────────────────────────────────────────────────────────────────────────────────────────────────────


class Ended(NamedTuple):
    """The end of a rollout: its trajectory, or None for a trial of the metric that found nothing wrong."""

    number: int
    trajectory: Trajectory | None


class Raised(NamedTuple):
    """The error that a rollout ended with."""

    number: int
    error: SentError


class LeaseWanted(NamedTuple):
    """A call waits to be sent to an endpoint; None if it blocks the worker's loop, and can't wait for a slot."""

    number: int
    endpoint: str | None
    size: CallSize = UNKNOWN


class CallAnswered(NamedTuple):
    """A leased call was answered, whatever the answer is."""

    number: int


class CallLeft(NamedTuple):
    """A leased call was sent, and its answer is not waited for any more."""

    number: int


class CallFailed(NamedTuple):
    """A leased call failed. The reply says whether and when it is made again."""

    number: int
    failed: FailedCall


class Withdrawn(NamedTuple):
    """What was asked for under that number is not needed any more: a lease goes back unused."""

    number: int


class UsageReported(NamedTuple):
    """What an answer reports: the part of its history entry that budgets and metrics read."""

    entry: Mapping[str, Any]


class TokensUsed(NamedTuple):
    """The tokens of a call, for the rate limit of its endpoint."""

    endpoint: str
    tokens: int


FromWorker: TypeAlias = (
    Ended | Raised | LeaseWanted | CallAnswered | CallLeft | CallFailed | Withdrawn | UsageReported | TokensUsed
)


class Hello(NamedTuple):
    """A new worker's process, node and versions."""

    pid: int
    node: str
    versions: Mapping[str, str]
    """By package; Python is one of them."""
    made: tuple[str, ...]
    """Names of the parts that `setup` has made."""


def sent(error: BaseException, secrets: Secrets) -> SentError:
    """Return an error as plain data."""
    known = isinstance(error, SimbaError)
    message = secrets.hide(str(error)) if known else secrets.describe(error)
    cap = error.cap if isinstance(error, BudgetReachedError) else None
    shown = not known or error.__cause__ is not None
    trace = secrets.hide("".join(traceback.format_exception(error))) if shown else ""
    endpoint = error.endpoint if isinstance(error, InfrastructureError) else None
    return SentError(type(error).__name__, message, cap, trace, endpoint)


def restored(error: SentError) -> Exception:
    """Return the error that was sent. One that is not a SimbaError becomes a RuntimeError."""
    kind = getattr(errors, error.kind, None)
    if error.cap is not None:
        again: Exception = BudgetReachedError(error.message, error.cap)
    elif isinstance(kind, type) and issubclass(kind, SimbaError):
        again = _made_of_message(kind, error.message)
    else:
        again = RuntimeError(error.message)
    if isinstance(again, InfrastructureError):
        again.endpoint = error.endpoint
    if error.trace:
        again.__cause__ = WorkerTracebackError(error.trace)
    return again


def _made_of_message(kind: type[SimbaError], message: str) -> SimbaError:
    try:
        return kind(message)
    except TypeError:  # Errors that no rollout raises take more than a message.
        return SimbaError(f"{kind.__name__}: {message}")


def remember(known: dict[str, Any], digest: str, value: Any) -> None:
    """Keep a configuration among the last ones. Both sides do this in the same order, so they keep the same ones."""
    known[digest] = value
    if len(known) > CONFIGURATIONS_KEPT:
        del known[next(iter(known))]
