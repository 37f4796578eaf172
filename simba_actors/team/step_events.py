"""What is told of a step when candidates leave it, and when it is closed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from simba_actors.events import (
    BudgetForecast,
    CandidateDropped,
    CandidateEvaluated,
    Event,
    ParameterAdapted,
    ProgramRegistered,
    StepClosed,
    TrendEstimated,
)
from simba_actors.search.evidence import Evidence
from simba_actors.search.policy import StepResult
from simba_actors.search.progress import Progress
from simba_actors.search.trajectory import Usage
from simba_actors.store.reading import PROMPT_MODEL


def step_events(
    step: int, baseline_score: float, result: StepResult, progress: Progress, evidence: Evidence
) -> list[Event]:
    """`baseline_score` is the mean of all that the step sampled."""
    events: list[Event] = []
    for program, score in result.scores.items():
        rollouts = len(evidence.of(program, "evaluate"))
        events.append(CandidateEvaluated(step=step, program=program, score=score, rollouts=rollouts))
        events.append(ProgramRegistered(step=step, program=program, score=score))
    events += [
        ParameterAdapted(parameter=change.parameter, before=change.before, after=change.after, reason=change.reason)
        for change in result.adaptations
    ]
    score = None if result.winner is None else result.scores[result.winner]
    events.append(StepClosed(step=step, winner=result.winner, score=score, baseline_score=baseline_score))
    trend = progress.trend
    if trend is not None:
        told = TrendEstimated(step=step, direction=trend.direction, slope=trend.slope, low=trend.low, high=trend.high)
        events.append(told)
    return events


def dropped(step: int, programs: Iterable[int], evidence: Evidence) -> list[Event]:
    """Candidates of which no more is asked, while others of their step go on."""
    counts = {program: len(evidence.of(program, "evaluate")) for program in programs}
    return [
        CandidateDropped(step=step, program=program, reason=f"clearly losing after {count} rollouts")
        for program, count in counts.items()
    ]


def forecast(used: Mapping[str, Usage], done: int, expected: int, max_steps: int) -> BudgetForecast:
    """What the whole run will have used, if its `expected` rollouts and its steps go on as the first step did.

    `used` is what this step's `done` rollouts and its strategies took, by name of the LM. Final rollouts that ran ahead
    are not among them: how many are stored by then is a matter of timing.
    """
    share = expected / max(1, done)
    rollouts = sum((usage for lm, usage in used.items() if lm != PROMPT_MODEL), start=Usage())
    strategies = used.get(PROMPT_MODEL, Usage())
    whole = rollouts * share + strategies * min(share, max_steps)
    return BudgetForecast(calls=whole.calls, tokens=whole.tokens, cost=whole.cost)
