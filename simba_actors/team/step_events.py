"""The events of a closed step."""

from __future__ import annotations

from simba_actors.events import (
    CandidateEvaluated,
    Event,
    OutlookEstimated,
    ParameterAdapted,
    ProgramRegistered,
    StepClosed,
    TrendEstimated,
)
from simba_actors.search.evidence import Evidence
from simba_actors.search.policy import StepResult
from simba_actors.search.progress import Progress


def step_events(
    step: int, sampled_mean: float | None, result: StepResult, progress: Progress, evidence: Evidence
) -> list[Event]:
    """Return the events of a closed step. `sampled_mean` is the mean score of its trajectories."""
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
    events.append(StepClosed(step=step, winner=result.winner, score=score, sampled_mean=sampled_mean))
    trend = progress.trend
    if trend is not None:
        events.append(
            TrendEstimated(step=step, direction=trend.direction, slope=trend.slope, low=trend.low, high=trend.high)
        )
    outlook = progress.outlook
    if outlook is not None:
        events.append(
            OutlookEstimated(step=step, gain=outlook.gain, rollouts=outlook.left, calls=progress.calls_left or 0)
        )
    return events
