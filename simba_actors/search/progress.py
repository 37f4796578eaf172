"""How far a run has come, as known when its last step closed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from simba_actors.search.evidence import Evidence, Score
from simba_actors.search.quality import Quality
from simba_actors.search.statistics.trend import Trend, trend_of
from simba_actors.search.trajectory import JSON, Usage


@dataclass(frozen=True, slots=True)
class StepProgress:
    """What a run had found and used when a step closed."""

    step: int
    """Number of closed steps."""
    best: Quality | None
    """The program that seems best by all that is known; None if no program was evaluated."""
    sampled: float | None
    """Mean score of the trajectories that the step sampled with the student's own LM; None if it sampled none."""
    bucket_floors: tuple[float, ...]
    """Lowest score in each bucket of the step, of the student's own LM."""
    usage: Usage
    """What the whole run has used."""
    seconds: float
    """Time that the run has been up, over all its lives and without pauses."""

    def to_json(self) -> JSON:
        """Return everything but `step` and `best`, which the store has already."""
        usage = self.usage
        return {
            "sampled": self.sampled,
            "bucket_floors": list(self.bucket_floors),
            "usage": [usage.calls, usage.prompt_tokens, usage.completion_tokens, usage.cost],
            "seconds": self.seconds,
        }


@dataclass(frozen=True, slots=True)
class Progress(StepProgress):
    """What a run had found and used when its last step closed, and the steps before.

    config = OptimizerConfig(…, stop_when=lambda progress: progress.step >= 5 and progress.usage.calls > 2_000)
    """

    earlier: tuple[StepProgress, ...] = field(default=(), repr=False, compare=False)
    """The steps before, the first one first."""

    @property
    def history(self) -> tuple[StepProgress, ...]:
        """All closed steps, this one last."""
        last = StepProgress(self.step, self.best, self.sampled, self.bucket_floors, self.usage, self.seconds)
        return (*self.earlier, last)

    @property
    def trend(self) -> Trend | None:
        """Whether the student's samples improve from step to step; None while there are too few steps to tell."""
        sampled = (*(each.sampled for each in self.earlier), self.sampled)
        return trend_of([mean for mean in sampled if mean is not None])


def progress_of(
    step: int, best: Quality | None, evidence: Evidence, usage: Usage, seconds: float, before: Progress | None
) -> Progress:
    """Return the progress at the end of `step`, which counts from 0. `before` is that of the step before."""
    floors = _floors(evidence, step)
    scores = [float(score.score) for score in _samples(evidence, step)]
    return Progress(
        step=step + 1,
        best=best,
        sampled=sum(scores) / len(scores) if scores else None,
        bucket_floors=tuple(floors[example] for example in sorted(floors)),
        usage=usage,
        seconds=seconds,
        earlier=() if before is None else before.history,
    )


def stored_progress(steps: Iterable[tuple[int, JSON, JSON]]) -> Progress | None:
    """Return the progress from the stored steps: (number, result, `to_json`) of each, the first step first.

    Steps that an old version closed have no progress and are left out. Return None if no step has any.
    """
    history: list[StepProgress] = []
    for step, result, stored in steps:
        if stored is None:
            continue
        data = cast("dict[str, Any]", stored)
        history.append(
            StepProgress(
                step=step + 1,
                best=Quality.from_json(cast("Mapping[str, JSON]", result).get("best")),
                sampled=data["sampled"],
                bucket_floors=tuple(data["bucket_floors"]),
                usage=Usage(*data["usage"]),
                seconds=data["seconds"],
            )
        )
    if not history:
        return None
    *earlier, last = history
    return Progress(last.step, last.best, last.sampled, last.bucket_floors, last.usage, last.seconds, tuple(earlier))


def _samples(evidence: Evidence, step: int) -> list[Score]:
    return [
        score
        for program in evidence.programs()
        for score in evidence.of(program, "sample")
        if score.key.step == step and score.model.is_student_lm
    ]


def _floors(evidence: Evidence, step: int) -> dict[int, float]:
    """Return the lowest score of each bucket, by example."""
    floors: dict[int, float] = {}
    for score in _samples(evidence, step):
        floors[score.example] = min(float(score.score), floors.get(score.example, float("inf")))
    return floors
