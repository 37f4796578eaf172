"""How far a run has come, as it was known when its last step was closed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from simba_actors.search.evidence import Evidence, Score
from simba_actors.search.quality import Quality
from simba_actors.search.statistics.trend import Trend, trend_of
from simba_actors.search.trajectory import JSON, Usage


@dataclass(frozen=True, slots=True)
class Progress:
    """What a run had found and used when a step was closed.

        config = OptimizerConfig(…, stop_when=lambda progress: progress.step >= 5 and progress.usage.calls > 2_000)

    `step` counts the closed steps. `best` is the program that seems best by all that is known, None where there is no
    evidence of any. `sampled` is the mean score of the step's trajectories, and `bucket_floors` the lowest in each of
    its buckets; both are of the student's own LM alone, None and empty where it sampled nothing. `usage` and `seconds`
    are the whole run's, time in pauses not counted. `earlier` are the steps before, the first one first.
    """

    step: int
    best: Quality | None
    sampled: float | None
    bucket_floors: tuple[float, ...]
    usage: Usage
    seconds: float
    earlier: tuple[Progress, ...] = field(default=(), repr=False, compare=False)

    @property
    def history(self) -> tuple[Progress, ...]:
        """All closed steps, this one last."""
        return (*self.earlier, self)

    @property
    def trend(self) -> Trend | None:
        """Whether the student's samples get better from step to step; None while there are too few steps to tell."""
        return trend_of([each.sampled for each in self.history if each.sampled is not None])

    def to_json(self) -> JSON:
        """Without `step`, `best` and `earlier`, which the store has already."""
        usage = self.usage
        return {
            "sampled": self.sampled,
            "bucket_floors": list(self.bucket_floors),
            "usage": [usage.calls, usage.prompt_tokens, usage.completion_tokens, usage.cost],
            "seconds": self.seconds,
        }


def progress_of(
    step: int, best: Quality | None, evidence: Evidence, usage: Usage, seconds: float, before: Progress | None
) -> Progress:
    """The progress at the end of `step`, which counts from 0; `before` is that of the step before."""
    floors = _floors(evidence, step)
    scores = [float(score.score) for score in _samples(evidence, step)]
    return Progress(
        step + 1,
        best,
        sum(scores) / len(scores) if scores else None,
        tuple(floors[example] for example in sorted(floors)),
        usage,
        seconds,
        () if before is None else before.history,
    )


def stored_progress(steps: Iterable[tuple[int, JSON, JSON]]) -> Progress | None:
    """From the steps' numbers, results and `to_json`s, the first step first; None where no step is closed.

    Steps that an older version closed have none, and are left out.
    """
    last: Progress | None = None
    for step, result, stored in steps:
        if stored is None:
            continue
        data = cast("dict[str, Any]", stored)
        last = Progress(
            step + 1,
            Quality.from_json(cast("Mapping[str, JSON]", result).get("best")),
            data["sampled"],
            tuple(data["bucket_floors"]),
            Usage(*data["usage"]),
            data["seconds"],
            () if last is None else last.history,
        )
    return last


def _samples(evidence: Evidence, step: int) -> list[Score]:
    return [
        score
        for program in evidence.programs()
        for score in evidence.of(program, "sample")
        if score.key.step == step and score.model.is_student_lm
    ]


def _floors(evidence: Evidence, step: int) -> dict[int, float]:
    """The lowest score of each bucket."""
    floors: dict[int, float] = {}
    for score in _samples(evidence, step):
        floors[score.example] = min(float(score.score), floors.get(score.example, float("inf")))
    return floors
