"""The scores of a run by step, drawn with characters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.text import Text

from simba_actors.store.pool_queries import Estimate
from simba_actors.store.queries import StepScores

LABEL = 7
"""Columns of the scores at the left."""

STYLES = {"best": "bold yellow", "sampled": "blue", "student": "dim", "": ""}


@dataclass(frozen=True, slots=True)
class Glyphs:
    best: str = "●"
    sampled: str = "○"
    student: str = "┄"


ASCII = Glyphs("*", "o", "-")


def score_curve(
    steps: Sequence[StepScores], student: Estimate | None, *, width: int, height: int = 9, glyphs: Glyphs | None = None
) -> Text:
    """Each step's best candidate and its samples, over the student's own score: lines of at most `width` columns."""
    signs = glyphs or Glyphs()
    best = [(place, step.best_score.mean) for place, step in enumerate(steps) if step.best_score is not None]
    sampled = [(place, step.sampled.mean) for place, step in enumerate(steps) if step.sampled is not None]
    level = [] if student is None else [student.mean]
    scores = [*level, *(score for _, score in (*best, *sampled))]
    if not scores:
        return Text("no step has scores yet", style="dim")
    low, high = min(scores), max(scores)
    rows = [[""] * max(1, width - LABEL) for _ in range(height)]

    def row(score: float) -> int:
        return round((high - score) / (high - low) * (height - 1)) if high > low else height // 2

    for score in level:
        rows[row(score)] = ["student"] * len(rows[0])
    for kind, points in (("sampled", sampled), ("best", best)):
        for column, score in _columns(points, len(steps), len(rows[0])):
            rows[row(score)][column] = kind
    shown = {"best": signs.best, "sampled": signs.sampled, "student": signs.student, "": " "}
    lines = [
        Text.assemble(
            f"{high - (high - low) * place / (height - 1):{LABEL - 1}.3f} ", *((shown[k], STYLES[k]) for k in kinds)
        )
        for place, kinds in enumerate(rows)
    ]
    legend = Text.assemble(
        " " * LABEL,
        *((f"{sign} {words}   ", STYLES[kind]) for kind, sign, words in _legend(signs)),
    )
    return Text("\n").join([*lines, legend])


def _columns(points: Iterable[tuple[int, float]], steps: int, width: int) -> Iterable[tuple[int, float]]:
    """The steps over the whole width, at most four columns apart."""
    apart = min(4.0, (width - 1) / max(1, steps - 1))
    return [(round(place * apart), score) for place, score in points]


def _legend(signs: Glyphs) -> Iterable[tuple[str, str, str]]:
    yield "best", signs.best, "best candidate of a step"
    yield "sampled", signs.sampled, "its samples"
    yield "student", signs.student, "student"
