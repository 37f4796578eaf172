"""Progress of a run as of its last closed step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import InitVar, dataclass
from typing import Any, cast

from simba_actors.search.evidence import Evidence, Score
from simba_actors.search.quality import Outlook, Quality
from simba_actors.search.rollout import JSON, Usage
from simba_actors.search.statistics.trend import Trend, trend_of


class _Linked:
    """Keeps the previous step out of the dataclass's fields, which would otherwise contain the whole history."""

    __slots__ = ("_before",)

    _before: Progress | None


@dataclass(frozen=True, slots=True)
class Progress(_Linked):
    """Findings and usage of a run at the end of a step.

        config = OptimizerConfig(…, stop_when=lambda progress: progress.step >= 5 and progress.usage.calls > 2_000)

    Its fields describe this step alone, so it stays small when it is copied or stored. `history` has the earlier steps.
    """

    step: int
    """The number of closed steps."""
    best: Quality | None
    """The program that seems best, with the search's estimate of its score; None before any evidence. See `Quality`."""
    sampled: float | None
    """The mean score of the trajectories that the student's own LM sampled in the step; None if it sampled none."""
    bucket_floors: tuple[float, ...]
    """The lowest of those scores for each example of the step."""
    usage: Usage
    """Usage of the whole run so far."""
    seconds: float
    """Uptime of the run in seconds, without pauses."""
    before: InitVar[Progress | None] = None
    """The progress of the step before."""
    outlook: Outlook | None = None
    """What the rest of the run is expected to add; None with `policy="dspy"`."""

    def __post_init__(self, before: Progress | None) -> None:
        object.__setattr__(self, "_before", before)

    @property
    def earlier(self) -> tuple[Progress, ...]:
        """Earlier steps, oldest first."""
        return self.history[:-1]

    @property
    def history(self) -> tuple[Progress, ...]:
        """All closed steps, oldest first, including this one."""
        steps = [self]
        while (before := getattr(steps[-1], "_before", None)) is not None:
            steps.append(before)
        return tuple(reversed(steps))

    @property
    def calls_left(self) -> int | None:
        """LM calls of the rest of the search, if a rollout takes as many as so far; None without an outlook."""
        outlook = self.outlook
        return None if outlook is None else round(self.usage.calls * outlook.left / outlook.spent)

    @property
    def trend(self) -> Trend | None:
        """Whether the student's samples get better from step to step; None while there are too few steps to tell."""
        return trend_of([each.sampled for each in self.history if each.sampled is not None])

    def to_json(self) -> dict[str, JSON]:
        """Return this step as plain JSON, without the steps before."""
        best = self.best
        return {
            "step": self.step,
            "best": None
            if best is None
            else {"program": best.program, "mean": best.mean, "low": best.low, "high": best.high},
            "sampled": self.sampled,
            "bucket_floors": list(self.bucket_floors),
            "usage": self.usage.to_json(),
            "seconds": self.seconds,
            "outlook": None
            if self.outlook is None
            else {"gain": self.outlook.gain, "rollouts": self.outlook.left, "calls": self.calls_left},
        }

    def to_store(self) -> JSON:
        """Return the data of this step that the store does not have yet."""
        usage = self.usage
        return {
            "sampled": self.sampled,
            "bucket_floors": list(self.bucket_floors),
            "usage": [usage.calls, usage.prompt_tokens, usage.completion_tokens, usage.cost],
            "seconds": self.seconds,
        }


def progress_of(
    step: int,
    best: Quality | None,
    outlook: Outlook | None,
    evidence: Evidence,
    usage: Usage,
    seconds: float,
    before: Progress | None,
) -> Progress:
    """Return the progress at the end of `step`, which counts from 0; `before` is that of the step before."""
    floors = _floors(evidence, step)
    scores = [float(score.score) for score in _samples(evidence, step)]
    return Progress(
        step + 1,
        best,
        sum(scores) / len(scores) if scores else None,
        tuple(floors[example] for example in sorted(floors)),
        usage,
        seconds,
        before,
        outlook,
    )


def stored_progress(steps: Iterable[tuple[int, JSON, JSON]]) -> Progress | None:
    """Return the last progress, from each step's number, result and `to_store`; None if no step is closed.

    Steps that an older version closed without progress are left out.
    """
    last: Progress | None = None
    for step, result, stored in steps:
        if stored is None:
            continue
        data = cast("dict[str, Any]", stored)
        found = cast("Mapping[str, JSON]", result)
        last = Progress(
            step + 1,
            Quality.from_json(found.get("best")),
            data["sampled"],
            tuple(data["bucket_floors"]),
            Usage(*data["usage"]),
            data["seconds"],
            last,
            Outlook.from_json(found.get("outlook")),
        )
    return last


def _samples(evidence: Evidence, step: int) -> list[Score]:
    return [score for score in evidence.sampled(step) if score.model.is_student_lm]


def _floors(evidence: Evidence, step: int) -> dict[int, float]:
    """Return the lowest score of each bucket."""
    floors: dict[int, float] = {}
    for score in _samples(evidence, step):
        floors[score.example] = min(float(score.score), floors.get(score.example, float("inf")))
    return floors
