"""Everything that a run can report, one frozen record each.

    async for event in optimizer.events():
        match event:
            case StepClosed(step=step, score=score):
                print(f"step {step + 1}: {score:.3f}")
            case RunPaused(reason=reason):
                print("waiting:", reason)

By subject:

    the run         RunStarted, RunForked, RunResumed, RoleChanged, RunPaused, RunWaiting, RunFinished, RunFailed
    steps           StepOpened, StepClosed, TrendEstimated, OutlookEstimated, ParameterAdapted
    rollouts        TrajectorySampled, ExampleSetAside, BucketsAnalyzed
    candidates      StrategyApplied, StrategyDeclined, CandidateProposed, CandidateEvaluated, ProgramRegistered
    publications    ProgramPublished, CanaryJudged
    team, budget    ActorCrashed, ActorRestarted, BudgetForecast, BudgetReached, CallRetried

An event is stored in the same transaction as the change that it reports. So the log never contains anything that a
crash undid.

Steps count from 0, as examples and programs do. Texts for people, such as pages and log lines, count steps from 1.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Literal, TypeAlias

from simba_actors.search.rollout import JSON, Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base class of events. The store fills in its fields when it commits an event."""

    run_id: str = ""
    """The run that reports the event."""
    seq: int = 0
    """The event's number in its run, counted from 1 without gaps."""
    time: float = 0.0
    """Time of the commit, in seconds since the Unix epoch."""

    def to_json(self) -> dict[str, JSON]:
        """Return the event as plain JSON, with its kind, run, number and time."""
        stamp: dict[str, JSON] = {
            "kind": type(self).__name__,
            "run_id": self.run_id,
            "seq": self.seq,
            "time": self.time,
        }
        return stamp | self.own_fields()

    def own_fields(self) -> dict[str, JSON]:
        """Return the fields of this kind of event alone, as plain JSON."""
        return {name: getattr(self, name) for name in _own_fields(type(self))}

    def stamped(self, run_id: str, seq: int, time: float) -> Event:
        """Return the event with run, number and time filled in."""
        return replace(self, run_id=run_id, seq=seq, time=time)


@cache
def _own_fields(kind: type[Event]) -> tuple[str, ...]:
    stamp = {field.name for field in fields(Event)}
    return tuple(field.name for field in fields(kind) if field.name not in stamp)


EventCallback: TypeAlias = Callable[[Event], Awaitable[None] | None]
"""Called with each event, in order, after it is stored."""


# ── the run ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class RunStarted(Event):
    """A new run was stored and begins."""

    policy: str
    """The search policy: "adaptive" or "dspy"."""
    settings: Mapping[str, JSON]
    """The settings of the `OptimizerConfig`, in a form that can be shown."""


@dataclass(frozen=True, slots=True)
class RunForked(Event):
    """The run was made from the first steps of another run."""

    source: str
    """The run that it was made from."""
    steps: int
    """Number of steps that were taken over."""


@dataclass(frozen=True, slots=True)
class RunResumed(Event):
    """The run continues."""

    by: str
    """Why: "start" in a new process, "resume" after `Optimizer.resume`, "resume_after" after the time of that setting,
    "endpoint" when an LM that the run waited for answers again."""


@dataclass(frozen=True, slots=True)
class RoleChanged(Event):
    """A process that was started with `standby=True` waits for the run, or has taken it over."""

    role: Literal["owner", "standby"]
    """The new role of the process."""
    process: str
    """The process, as "pid@host"."""


PauseCause: TypeAlias = Literal["user", "stop", "access", "outage", "failures"]
"""Why a run is paused.

"user": `pause` was called. "stop": another process asked to stop the run. "access": an LM refused the key, the account
or the model, or a cap of the budget can't be kept. "outage": an LM could not be reached for longer than the grace
period. "failures": the student failed on every example of the first step for the same reason.
"""


@dataclass(frozen=True, slots=True)
class RunPaused(Event):
    """The run starts no more LM work until it is resumed."""

    reason: str
    """Why, and what to do about it."""
    cause: PauseCause = "user"
    """The kind of reason."""


@dataclass(frozen=True, slots=True)
class RunWaiting(Event):
    """No LM call has been answered for a while. The run continues when one is."""

    reason: str
    """Why the run waits."""


@dataclass(frozen=True, slots=True)
class RunFinished(Event):
    """The run has a result."""

    program: int
    """The number of the best program."""
    score: float
    """The winner's score: the mean of its own rollouts."""
    reason: str = ""
    """Why the search ended."""


@dataclass(frozen=True, slots=True)
class RunFailed(Event):
    """The run ended with an error in the user's code or in this package. It can be started again when that is fixed."""

    reason: str
    """The error."""


# ── steps ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class StepOpened(Event):
    """A step begins."""

    step: int
    """The step, counted from 0."""
    examples: tuple[int, ...]
    """The trainset indices of the step's minibatch."""


@dataclass(frozen=True, slots=True)
class StepClosed(Event):
    """A step has ended."""

    step: int
    """The step, counted from 0."""
    winner: int | None
    """The number of the candidate that seems best by all that is known; None if no strategy made one."""
    score: float | None
    """The winner's mean score over its rollouts in the step; None if there is no winner."""

    sampled_mean: float | None
    """The mean score of all trajectories that were sampled in the step; None if none has a score."""


@dataclass(frozen=True, slots=True)
class TrendEstimated(Event):
    """The trend of the sampled scores from step to step. Reported after each step from the fifth on."""

    step: int
    """The last step that the estimate includes, counted from 0."""
    direction: Literal["improving", "flat", "falling"]
    """"flat" if the interval includes 0."""
    slope: float
    """Change of the mean score for each step."""
    low: float
    """Lower end of the 95 % interval of `slope`."""
    high: float
    """Upper end of the 95 % interval of `slope`."""


@dataclass(frozen=True, slots=True)
class OutlookEstimated(Event):
    """The gain that is expected of the rest of the search. Reported after each step of the adaptive policy."""

    step: int
    """The last step that the estimate includes, counted from 0."""
    gain: float
    """Expected increase of the best program's mean score."""
    rollouts: int
    """Rollouts of the rest of the search."""
    calls: int
    """LM calls of the rest of the search."""


@dataclass(frozen=True, slots=True)
class ParameterAdapted(Event):
    """A parameter of the adaptive search was changed; see `simba_actors.search.adaptive.adaptation`."""

    parameter: str
    """"temperature", "batch_size" or "rollouts_per_candidate"."""
    before: float
    """The value so far."""
    after: float
    """The value from now on."""
    reason: str
    """The evidence for the change."""


# ── rollouts ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class TrajectorySampled(Event):
    """A program was run on an example to learn from it."""

    step: int
    """The step, counted from 0."""
    position: int
    """The rollout's place in the step's sampling plan, counted from 0."""
    program: int
    """The number of the program that ran."""
    example: int
    """The trainset index of the example."""
    outcome: Outcome
    """Whether the rollout was scored or failed."""
    score: float
    """The metric's score; 0 if the program failed."""
    lm: str = "student"
    """The name of the LM in the run's model pool."""
    error: str | None = None
    """The error that the program raised; None if it did not fail."""


@dataclass(frozen=True, slots=True)
class ExampleSetAside(Event):
    """An example failed several times while the LM answered others. It is left out, without a score."""

    split: Literal["train", "val"]
    """The set to which the example belongs."""
    example: int
    """The example's index in that set."""
    reason: str
    """The failure."""


@dataclass(frozen=True, slots=True)
class BucketsAnalyzed(Event):
    """A step's trajectories were grouped by example."""

    step: int
    """The step, counted from 0."""
    buckets: int
    """Number of buckets: examples with trajectories."""
    spread: int
    """Number of buckets whose scores differ."""
    sampled_mean: float | None
    """The mean score of all trajectories that were sampled in the step; None if none has a score."""
    p10: float | None
    """10th percentile of the sampled scores; None without scores."""
    p90: float | None
    """90th percentile of the sampled scores; None without scores."""


# ── candidates ────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class StrategyApplied(Event):
    """A strategy made a new program."""

    step: int
    """The step, counted from 0."""
    index: int
    """The proposal's index in the step's plan, counted from 0."""
    strategy: str
    """The strategy's name."""
    program: int
    """The number of the new program."""


@dataclass(frozen=True, slots=True)
class StrategyDeclined(Event):
    """A strategy made no program."""

    step: int
    """The step, counted from 0."""
    index: int
    """The proposal's index in the step's plan, counted from 0."""
    strategy: str
    """The strategy's name."""
    reason: str
    """Why it made none."""


@dataclass(frozen=True, slots=True)
class CandidateProposed(Event):
    """A new program will be evaluated on the step's minibatch."""

    step: int
    """The step, counted from 0."""
    program: int
    """The number of the new program."""
    parents: tuple[int, ...]
    """The numbers of the programs that it was made from."""
    strategy: str
    """The name of the strategy that made it."""


@dataclass(frozen=True, slots=True)
class CandidateEvaluated(Event):
    """A candidate has been evaluated on the step's minibatch."""

    step: int
    """The step, counted from 0."""
    program: int
    """The candidate's number."""
    score: float
    """The mean score over its rollouts so far."""
    rollouts: int
    """Number of the candidate's rollouts in the step."""


@dataclass(frozen=True, slots=True)
class ProgramRegistered(Event):
    """A program joined the pool that later steps build on."""

    step: int
    """The step, counted from 0."""
    program: int
    """The program's number."""
    score: float
    """The mean score over its rollouts so far."""


# ── publications ──────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class ProgramPublished(Event):
    """A channel has a new version, whose program is from this run or takes the place of one from this run."""

    program: int | None
    """The program's number in the pool of `source`; None if it is not from a run."""
    channel: str
    """The channel's name."""
    version: int
    """The new version's number."""
    reason: str
    """Why it was published."""
    kind: Literal["publish", "canary", "promote", "rollback"] = "publish"
    """How: to all calls, as a canary, promoted from a canary, or brought back from an earlier version."""
    source: str | None = None
    """The run that the program is from; None if it is not from a run."""


@dataclass(frozen=True, slots=True)
class CanaryJudged(Event):
    """Online scores have decided about a canary whose program is from this run.

    The channel's history has the decision about every canary, including those that are not from a run.
    """

    program: int
    """The program's number."""
    channel: str
    """The channel's name."""
    canary: int
    """The canary's version number."""
    verdict: Literal["promote", "rollback"]
    """The decision."""
    reason: str
    """The scores that it is based on."""


# ── the team, the budget and the LMs ──────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class ActorCrashed(Event):
    """An actor of the run ended with an error. Its supervisor decides what happens next."""

    actor: str
    """The actor's name."""
    reason: str
    """The error."""


@dataclass(frozen=True, slots=True)
class ActorRestarted(Event):
    """A supervisor restarted an actor."""

    actor: str
    """The actor's name."""
    restarts: int
    """Number of restarts of the actor in this process."""


@dataclass(frozen=True, slots=True)
class BudgetForecast(Event):
    """Expected usage of the whole run, estimated from its first step."""

    calls: int
    """LM calls."""
    tokens: int | None
    """Tokens, prompt and completion together; None if unknown."""
    cost: float | None
    """Cost in US dollars; None if unknown."""
    seconds: float | None = None
    """Time in seconds, without pauses; None in the stores of earlier versions."""


@dataclass(frozen=True, slots=True)
class BudgetReached(Event):
    """A cap of the budget was reached. The run ends with what it has."""

    cap: str
    """The cap's name, such as "max_calls"."""
    limit: float
    """The cap's value, in its own unit."""


@dataclass(frozen=True, slots=True)
class CallRetried(Event):
    """An LM call met an infrastructure failure and will be sent again."""

    endpoint: str
    """The endpoint's name: model and host."""
    error: str
    """The failure."""
    attempt: int
    """Number of failed attempts."""
    delay: float
    """Seconds until the next attempt."""


EVENT_TYPES: Mapping[str, type[Event]] = {
    cls.__name__: cls
    for cls in (
        RunStarted,
        RunForked,
        RunResumed,
        RunPaused,
        RunWaiting,
        RoleChanged,
        RunFinished,
        RunFailed,
        StepOpened,
        StepClosed,
        TrendEstimated,
        OutlookEstimated,
        TrajectorySampled,
        ExampleSetAside,
        BucketsAnalyzed,
        StrategyApplied,
        StrategyDeclined,
        CandidateProposed,
        CandidateEvaluated,
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
"""Every kind of event, by name."""
