"""Everything that a run can report, one frozen record each.

    async for event in optimizer.events():
        match event:
            case StepClosed(step=step, score=score):
                print(f"step {step}: {score:.3f}")
            case RunPaused(reason=reason):
                print("waiting:", reason)

An event is stored in the transaction that it reports, so the log never tells of something that a crash undid.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any, Literal, TypeAlias, cast

from simba_actors.search.trajectory import JSON, Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What all events have. The store stamps them when it commits them.

    `seq` counts a run's events from 1 without gaps; `time` is in seconds since the Unix epoch.
    """

    run_id: str = ""
    seq: int = 0
    time: float = 0.0

    def to_json(self) -> dict[str, JSON]:
        """Return the event with its stamp and its kind as plain JSON."""
        stamp: dict[str, JSON] = {
            "kind": type(self).__name__,
            "run_id": self.run_id,
            "seq": self.seq,
            "time": self.time,
        }
        return stamp | to_json(self)

    def stamped(self, run_id: str, seq: int, time: float) -> Event:
        return replace(self, run_id=run_id, seq=seq, time=time)


EventCallback: TypeAlias = Callable[[Event], Awaitable[None] | None]
"""Called with each event, in order, once it is stored."""


@dataclass(frozen=True, slots=True)
class RunStarted(Event):
    policy: str
    settings: Mapping[str, JSON]


@dataclass(frozen=True, slots=True)
class RunForked(Event):
    """The run was made from the first `steps` steps of the run `source`."""

    source: str
    steps: int


@dataclass(frozen=True, slots=True)
class RunResumed(Event):
    """The run continues.

    `by` is "start" in a new process, "resume" after `Optimizer.resume`, "resume_after" after the time of that setting,
    and "endpoint" when an LM that the run waited for answers again.
    """

    by: str


PauseCause: TypeAlias = Literal["user", "access", "outage", "failures"]
"""Why a run is paused.

"user": somebody called `pause`. "access": an LM refused the key, the account or the model, or a cap of the budget
can't be kept. "outage": an LM could not be reached for longer than the grace period. "failures": the student failed on
every example of the first step for the same reason.
"""


@dataclass(frozen=True, slots=True)
class RunPaused(Event):
    """The run starts no more LM work until it is resumed."""

    reason: str
    cause: PauseCause = "user"


@dataclass(frozen=True, slots=True)
class RunWaiting(Event):
    """No LM call has been answered for a while. The run continues by itself when one is."""

    reason: str


@dataclass(frozen=True, slots=True)
class RunFinished(Event):
    """`reason` says what ended the search."""

    program: int
    score: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RunFailed(Event):
    """The run ended with an error of the user's code or of ours. It can be started again once that is mended."""

    reason: str


@dataclass(frozen=True, slots=True)
class StepOpened(Event):
    step: int
    examples: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class StepClosed(Event):
    """`score` is the winner's mean over the batch and `baseline_score` that of all sampled trajectories.

    `winner` and `score` are None when no strategy made a candidate.
    """

    step: int
    winner: int | None
    score: float | None
    baseline_score: float


@dataclass(frozen=True, slots=True)
class TrendEstimated(Event):
    """How the student's samples went from step to step up to `step`: their mean rose by `slope` a step.

    `low` and `high` are the 95 % interval of that. Told after each step from the fifth on.
    """

    step: int
    direction: Literal["improving", "flat", "falling"]
    slope: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class TrajectorySampled(Event):
    """A sampling rollout has its result.

    `lm` is the name of the LM in the run's model pool, and `error` what the student raised, if it failed.
    """

    step: int
    position: int
    program: int
    example: int
    outcome: Outcome
    score: float
    lm: str = "student"
    error: str | None = None


@dataclass(frozen=True, slots=True)
class BucketsAnalyzed(Event):
    """`p10` and `p90` are percentiles of the step's sampled scores; `spread` counts buckets whose scores differ."""

    step: int
    buckets: int
    spread: int
    baseline_score: float
    p10: float
    p90: float


@dataclass(frozen=True, slots=True)
class StrategyApplied(Event):
    step: int
    slot: int
    strategy: str
    program: int


@dataclass(frozen=True, slots=True)
class StrategyDeclined(Event):
    step: int
    slot: int
    strategy: str
    reason: str


@dataclass(frozen=True, slots=True)
class CandidateProposed(Event):
    step: int
    program: int
    parents: tuple[int, ...]
    strategy: str


@dataclass(frozen=True, slots=True)
class CandidateEvaluated(Event):
    step: int
    program: int
    score: float
    rollouts: int


@dataclass(frozen=True, slots=True)
class CandidateDropped(Event):
    step: int
    program: int
    reason: str


@dataclass(frozen=True, slots=True)
class ProgramRegistered(Event):
    step: int
    program: int
    score: float


@dataclass(frozen=True, slots=True)
class ProgramPublished(Event):
    """The channel has a new version: published, tried as a canary, promoted from that, or rolled back to."""

    program: int
    channel: str
    version: int
    reason: str
    kind: Literal["publish", "canary", "promote", "rollback"] = "publish"


@dataclass(frozen=True, slots=True)
class CanaryJudged(Event):
    """Online scores have decided about the canary that a program of the run was: version `canary` of the channel.

    The channel's history has the verdict on every canary, also on those of no run.
    """

    program: int
    channel: str
    canary: int
    verdict: Literal["promote", "rollback"]
    reason: str


@dataclass(frozen=True, slots=True)
class ParameterAdapted(Event):
    """A parameter of the adaptive search follows the evidence: see `simba_actors.search.adaptive.adaptation`.

    `parameter` is "temperature", "batch_size" or "rollouts_per_candidate", as in `Parameters` there.
    """

    parameter: str
    before: float
    after: float
    reason: str


@dataclass(frozen=True, slots=True)
class ActorCrashed(Event):
    actor: str
    reason: str


@dataclass(frozen=True, slots=True)
class ActorRestarted(Event):
    actor: str
    restarts: int


@dataclass(frozen=True, slots=True)
class BudgetForecast(Event):
    """What the whole run is expected to use, from the first step's use. `cost` is in US dollars, None if unknown."""

    calls: int
    tokens: int | None
    cost: float | None


@dataclass(frozen=True, slots=True)
class BudgetReached(Event):
    cap: str
    limit: float


@dataclass(frozen=True, slots=True)
class CallRetried(Event):
    """An LM call met an infrastructure failure and is made again after `delay` seconds."""

    endpoint: str
    error: str
    attempt: int
    delay: float


EVENT_TYPES: Mapping[str, type[Event]] = {
    cls.__name__: cls
    for cls in (
        RunStarted,
        RunForked,
        RunResumed,
        RunPaused,
        RunWaiting,
        RunFinished,
        RunFailed,
        StepOpened,
        StepClosed,
        TrendEstimated,
        TrajectorySampled,
        BucketsAnalyzed,
        StrategyApplied,
        StrategyDeclined,
        CandidateProposed,
        CandidateEvaluated,
        CandidateDropped,
        ProgramRegistered,
        ProgramPublished,
        CanaryJudged,
        ParameterAdapted,
        ActorCrashed,
        ActorRestarted,
        BudgetForecast,
        BudgetReached,
        CallRetried,
    )
}


def to_json(event: Event) -> dict[str, JSON]:
    """The event's own fields as plain JSON, without the stamp and without its type's name."""
    return {name: getattr(event, name) for name in _own_fields(type(event))}


@cache
def _own_fields(kind: type[Event]) -> tuple[str, ...]:
    stamp = {field.name for field in fields(Event)}
    return tuple(field.name for field in fields(kind) if field.name not in stamp)


def from_json(kind: str, data: Mapping[str, JSON], *, run_id: str, seq: int, time: float) -> Event:
    """The event that `to_json` made `data` from. Unknown kinds, from a newer version, raise KeyError."""
    cls = EVENT_TYPES[kind]
    values: dict[str, Any] = {
        name: tuple(cast("list[JSON]", value)) if isinstance(value, list) else value for name, value in data.items()
    }
    return cls(**values, run_id=run_id, seq=seq, time=time)
