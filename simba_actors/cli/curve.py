"""The scores of a run by step, drawn with characters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

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

    def row_of(score: float) -> int:
        return round((high - score) / (high - low) * (height - 1)) if high > low else height // 2

    rows = [[""] * max(1, width - LABEL) for _ in range(height)]
    if student is not None:
        rows[row_of(student)] = ["student"] * len(rows[0])
    _mark(rows, points, row_of)
    shown = {"": " ", **asdict(signs)}
    lines = [
        Text.assemble(
            f"{high - (high - low) * place / (height - 1):{LABEL - 1}.3f} ",
            *((shown[kind], STYLES[kind]) for kind in kinds),
        )
        for place, kinds in enumerate(rows)
    ]
    legend = Text.assemble(
        " " * LABEL,
        *((f"{sign} {words}   ", STYLES[kind]) for kind, sign, words in _legend(signs)),
    )
    return Text("\n").join([*lines, legend])


def _mark(rows: list[list[str]], points: Sequence[CurvePoint], row_of: Callable[[float], int]) -> None:
    """Mark the values of each step in its column, with the best scores over the samples over the intervals.

    The steps of a long run share columns.
    """
    by_column = [(_column(place, len(points), len(rows[0])), point) for place, point in enumerate(points)]
    for column, point in by_column:
        if point.low is not None and point.high is not None:
            for row in range(row_of(point.high), row_of(point.low) + 1):
                rows[row][column] = "interval"
    for column, point in by_column:
        if point.sampled is not None:
            rows[row_of(point.sampled)][column] = "sampled"
    for column, point in by_column:
        if point.best is not None:
            rows[row_of(point.best)][column] = "best"


def _column(place: int, steps: int, width: int) -> int:
    """Return the column of a step. Steps take the whole width, but are at most four columns apart."""
    apart = min(4.0, (width - 1) / max(1, steps - 1))
    return round(place * apart)


def _legend(signs: Glyphs) -> Iterable[tuple[str, str, str]]:
    yield "best", signs.best, "best program so far"
    yield "interval", signs.interval, "95 % interval"
    yield "sampled", signs.sampled, "samples"
    yield "student", signs.student, "student"
