"""The scores of a run by step, drawn with characters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.text import Text

LABEL = 7
"""Columns of the scores on the left."""

STYLES = {"best": "bold yellow", "interval": "yellow", "sampled": "blue", "student": "dim", "": ""}


@dataclass(frozen=True, slots=True)
class Glyphs:
    """The characters that stand for each kind of value."""

    best: str = "●"
    interval: str = "│"
    sampled: str = "○"
    student: str = "┄"


ASCII = Glyphs("*", "|", "o", "-")
"""Glyphs for terminals that are not UTF-8."""


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """The scores of one step, each None if unknown."""

    best: float | None = None
    """The best program's score."""
    low: float | None = None
    """Lower end of its interval."""
    high: float | None = None
    """Upper end of its interval."""
    sampled: float | None = None
    """The mean score of the step's samples."""


def score_curve(
    points: Sequence[CurvePoint], student: float | None, *, width: int, height: int = 9, glyphs: Glyphs | None = None
) -> Text:
    """Draw the best score so far with its interval and the samples of each step over the student's own score.

    The lines have at most `width` columns.
    """
    signs = glyphs or Glyphs()
    known = [value for point in points for value in (point.best, point.low, point.high, point.sampled)]
    scores = [value for value in (*known, student) if value is not None]
    if not scores:
        return Text("no step has scores yet", style="dim")
    low, high = min(scores), max(scores)
    columns = max(1, width - LABEL)
    rows = [[""] * columns for _ in range(height)]

    def row(score: float) -> int:
        return round((high - score) / (high - low) * (height - 1)) if high > low else height // 2

    if student is not None:
        rows[row(student)] = ["student"] * columns
    for place, point in enumerate(points):
        column = _column(place, len(points), columns)
        if point.low is not None and point.high is not None:
            for line in range(row(point.high), row(point.low) + 1):
                rows[line][column] = "interval"
    for kind in ("sampled", "best"):
        for place, point in enumerate(points):
            value = point.sampled if kind == "sampled" else point.best
            if value is not None:
                rows[row(value)][_column(place, len(points), columns)] = kind
    shown = {
        "best": signs.best,
        "interval": signs.interval,
        "sampled": signs.sampled,
        "student": signs.student,
        "": " ",
    }
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


def _column(place: int, steps: int, width: int) -> int:
    """Return the column of a step. Steps take the whole width, but are at most four columns apart."""
    apart = min(4.0, (width - 1) / max(1, steps - 1))
    return round(place * apart)


def _legend(signs: Glyphs) -> Iterable[tuple[str, str, str]]:
    yield "best", signs.best, "best program so far"
    yield "interval", signs.interval, "95 % interval"
    yield "sampled", signs.sampled, "samples"
    yield "student", signs.student, "student"
