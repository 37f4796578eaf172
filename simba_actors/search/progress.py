"""Progress of a run as of its last closed step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import InitVar, dataclass, replace
from typing import Any, Self, cast

from simba_actors.search.evidence import Evidence, Score
from simba_actors.search.quality import Outlook, Quality
from simba_actors.search.rollout import JSON, Usage
from simba_actors.search.statistics.trend import Trend, trend_of


@dataclass(frozen=True, slots=True)
class StepProgress:
    """Findings and usage of a run at the end of a step."""

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
    outlook: Outlook | None = None
    """What the rest of the run is expected to add; None with `policy="dspy"`."""

    @property
    def calls_left(self) -> int | None:
        """LM calls of the rest of the search, if a rollout takes as many as so far; None without an outlook."""
        outlook = self.outlook
        return None if outlook is None else round(self.usage.calls * outlook.left / outlook.spent)

    def to_json(self) -> dict[str, JSON]:
        """Return this step as plain JSON."""
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

    @classmethod
    def from_store(cls, step: int, result: JSON, stored: JSON) -> Self:
        """Return the progress at the end of a step, from the step's number and result and from `to_store`."""
        data, found = cast("dict[str, Any]", stored), cast("Mapping[str, JSON]", result)
        return cls(
            step + 1,
            Quality.from_json(found.get("best")),
            data["sampled"],
            tuple(data["bucket_floors"]),
            Usage(*data["usage"]),
            data["seconds"],
            Outlook.from_json(found.get("outlook")),
        )


class _Linked(StepProgress):
    """Adds a slot for the previous step that is not a field.

    A field would take the whole history into comparisons, `asdict` and copies. An attribute without a slot would be
    pickled and copied with its own previous step, and so on, until the recursion is too deep.
    """

    __slots__ = ("_before",)

    _before: Progress | None


@dataclass(frozen=True, slots=True)
class Progress(_Linked):
    """Findings and usage of a run at the end of a step, with those of the steps before.

        config = OptimizerConfig(…, stop_when=lambda progress: progress.step >= 5 and progress.usage.calls > 2_000)

    Its fields describe this step alone, so it stays small when it is copied or stored. `history` has the earlier steps.
    """

    before: InitVar[Progress | None] = None
    """The progress of the step before."""

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
    def trend(self) -> Trend | None:
        """Whether the student's samples get better from step to step; None while there are too few steps to tell."""
        return trend_of([each.sampled for each in self.history if each.sampled is not None])


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
        outlook,
        before,
    )


def stored_progress(steps: Iterable[tuple[int, JSON, JSON]]) -> Progress | None:
    """Return the progress at the end of the last step; None without steps. Each step is as for `from_store`."""
    last: Progress | None = None
    for step, result, stored in steps:
        last = replace(Progress.from_store(step, result, stored), before=last)
    return last


def _samples(evidence: Evidence, step: int) -> list[Score]:
    return [score for score in evidence.sampled(step) if score.model.is_student_lm]


def _floors(evidence: Evidence, step: int) -> dict[int, float]:
    """Return the lowest score of each bucket."""
    floors: dict[int, float] = {}
    for score in _samples(evidence, step):
        floors[score.example] = min(float(score.score), floors.get(score.example, float("inf")))
    return floors
