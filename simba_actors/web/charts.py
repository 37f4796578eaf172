"""Charts as SVG: no script, no build step, and nothing that a strict Content-Security-Policy forbids.

Each chart is drawn in two widths, for wide and narrow screens, and the style sheet shows one of them. Every point can
be focused with the keyboard, shows its value on hover and focus, and is read by screen readers. A library that draws on
a canvas, such as uPlot, can't do that, since its points are pixels. It would be faster for tens of thousands of points,
but a chart here has about `MOST_POINTS` at most.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup, escape

from simba_actors.search.objectives import pareto_front
from simba_actors.store.queries.run_queries import StepScores
from simba_actors.store.queries.score_queries import Standing, StepSpending

Series = Literal["best", "sampled", "student", "objective", "front"]

MOST_POINTS = 120
"""Number of steps that fit in one chart; of more, evenly chosen ones are drawn."""

MANY_POINTS = 40
"""Points from which they are drawn smaller, so that they do not overlap."""

WIDTHS = {"roomy": 720, "narrow": 350}
"""CSS classes and widths, in pixels, of the two versions of a chart."""

WIDEST_CHARACTER = 12
"""Pixels of the widest letter in the title of an axis."""

HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 270, 62, 14, 14, 46


@dataclass(frozen=True, slots=True)
class Point:
    """One value of a series."""

    x: float
    y: float
    words: str
    """Text shown on hover, such as "step 3: 0.933 (0.764 to 0.991)"."""
    low: float | None = None
    """Lower end of its 95 % interval."""
    high: float | None = None
    """Upper end of its 95 % interval."""


def chart_by_step(steps: Sequence[StepScores], spending: Sequence[StepSpending], student: Standing | None) -> Markup:
    """Draw the best score so far and the mean of the samples over the steps."""
    if not steps:
        return Markup("")
    best = {spent.step: spent.best for spent in spending if spent.best is not None}
    series: dict[Series, list[Point]] = {
        "sampled": [
            Point(s.step + 1, s.sampled.mean, f"step {s.step + 1}, samples: {s.sampled.mean:.3f}")
            for s in steps
            if s.sampled is not None
        ],
        "best": [_best_point(s.step + 1, f"step {s.step + 1}", best[s.step]) for s in steps if s.step in best],
    }
    label = f"Scores of {len(steps)} steps: the best program so far with its 95 % interval, and the samples' mean"
    return _both_widths(series, student, label, "step", "score", whole=True, shown=_whole)


def chart_by_spending(
    spending: Sequence[StepSpending], student: Standing | None, what: Literal["calls", "tokens", "cost"]
) -> Markup:
    """Draw the best score so far over what the run had spent by then, at each step and, as step -1, at its end."""
    shown = _dollars if what == "cost" else _whole
    points: list[Point] = []
    for spent in spending:
        amount = {"calls": spent.calls, "tokens": spent.tokens, "cost": spent.cost}[what]
        if amount is not None and spent.best is not None:
            unit = "" if what == "cost" else f" {'LM calls' if what == 'calls' else what}"
            when = f"step {spent.step + 1}" if spent.step >= 0 else "the end"
            points.append(_best_point(amount, f"{shown(amount)}{unit}, {when}", spent.best))
    if not points:
        return Markup("")
    title = {"calls": "LM calls", "tokens": "tokens", "cost": "cost in US dollars"}[what]
    label = f"The best score so far by {title}, with its 95 % interval"
    return _both_widths({"best": points}, student, label, title, "score", from_zero=True, shown=shown)


def chart_of_objectives(scores: Mapping[int, Mapping[str, float]], link: Callable[[int], str]) -> Markup:
    """Draw the finalists by their first two objectives, with those on the Pareto front set apart."""
    names = list(dict.fromkeys(name for own in scores.values() for name in own))
    if len(names) < 2:
        return Markup("")
    across, up = names[:2]
    front = pareto_front(scores)
    series: dict[Series, list[Point]] = {"objective": [], "front": []}
    for number, own in scores.items():
        words = f"program {number}: {across} {own[across]:.3f}, {up} {own[up]:.3f}"
        series["front" if number in front else "objective"].append(Point(own[across], own[up], words))
    label = f"{len(scores)} finalists by {across} and {up}"
    return _both_widths(series, None, label, across, up, shown=_decimals, lines=False)


def chart_of_standings(standings: Sequence[tuple[str, Standing]]) -> Markup:
    """Draw scores with their 95 % intervals one under the other, on one axis."""
    ends = [value for _, known in standings for value in (known.low, known.high)]
    low, high = _score_range(ends)
    return Markup("").join(_standings(standings, low, high, name, width) for name, width in WIDTHS.items())


def _best_point(x: float, where: str, best: Standing) -> Point:
    words = f"{where}: {best.score:.3f} ({best.low:.3f} to {best.high:.3f}), program {best.program}"
    return Point(x, best.score, words, best.low, best.high)


def _standings(
    standings: Sequence[tuple[str, Standing]], low: float, high: float, name_of_width: str, width: int
) -> Markup:
    left, row, top = 74, 34, 6
    height = top + row * len(standings) + 26

    def x(score: float) -> float:
        return round(left + (score - low) / (high - low) * (width - left - 20), 1)

    bottom = height - 26
    parts: list[str] = []
    for tick in _ticks(low, high, 5):
        parts.append(f'<line class="grid" x1="{x(tick)}" x2="{x(tick)}" y1="{top}" y2="{bottom}"/>')
        parts.append(f'<text x="{x(tick)}" y="{bottom + 16}" text-anchor="middle">{tick:.2f}</text>')
    for index, (name, known) in enumerate(standings):
        y = top + row * index + row / 2
        words = f"{name}: {known.score:.3f}, 95 % interval {known.low:.3f} to {known.high:.3f}"
        kind = "student" if name.endswith("student") else "best"
        parts.append(
            f'<g class="point {kind}" tabindex="0" role="img" aria-label="{escape(words)}">'
            f'<text class="name" x="{left - 10}" y="{y + 4}" text-anchor="end">{escape(name)}</text>'
            f'<line class="{kind} interval" x1="{x(known.low)}" x2="{x(known.high)}" y1="{y}" y2="{y}"/>'
            f'<circle class="{kind}" cx="{x(known.score)}" cy="{y}" r="6"/>'
            f"{_tip(x(known.score), y, words, width)}</g>"
        )
    label = "; ".join(f"{name} {known}" for name, known in standings)
    return Markup(  # noqa: S704 - made of numbers and escaped words
        f'<svg class="chart standings" data-width="{name_of_width}" viewBox="0 0 {width} {height}" role="group" '
        f'aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )


def _both_widths(
    series: Mapping[Series, Sequence[Point]],
    student: Standing | None,
    label: str,
    x_title: str,
    y_title: str,
    *,
    shown: Callable[[float], str],
    whole: bool = False,
    from_zero: bool = False,
    lines: bool = True,
) -> Markup:
    points = [point for own in series.values() for point in own]
    if not points:
        return Markup("")
    ys = [value for point in points for value in (point.y, point.low, point.high) if value is not None]
    xs = [point.x for point in points]
    if lines:
        low, high = _score_range([*ys, *([student.score] if student is not None else [])])
        first, last = (0.0 if from_zero else min(xs)), max(xs)
    else:
        (low, high), (first, last) = _padded(ys), _padded(xs)
    if whole or last <= first:
        first, last = first - 0.5, last + 0.5
    charts: list[Markup] = []
    for name, width in WIDTHS.items():
        frame = _Frame(first, last, low, high, width)
        body = [*frame.grid(x_title, y_title, shown, whole=whole)]
        if student is not None:
            body.append(frame.level(student))
        for kind, own in series.items():
            body += frame.series(kind, own, lines=lines)
        charts.append(
            Markup(  # noqa: S704 - made of numbers and escaped words
                f'<svg class="chart" data-width="{name}" viewBox="0 0 {width} {HEIGHT}" role="group" '
                f'aria-label="{escape(label)}">{"".join(body)}</svg>'
            )
        )
    return Markup("").join(charts)


class _Frame:
    """Maps values to coordinates in one chart."""

    def __init__(self, first: float, last: float, low: float, high: float, width: int) -> None:
        self._first, self._last, self._low, self._high, self._width = first, last, low, high, width

    def x(self, value: float) -> float:
        share = (value - self._first) / (self._last - self._first)
        return round(LEFT + share * (self._width - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        share = (min(max(value, self._low), self._high) - self._low) / (self._high - self._low)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP), 1)

    def grid(self, x_title: str, y_title: str, shown: Callable[[float], str], *, whole: bool) -> Iterator[str]:
        right, bottom = self._width - RIGHT, HEIGHT - BOTTOM
        digits = 2 if self._high - self._low > 0.1 else 3
        for tick in _ticks(self._low, self._high, 5):
            y = self.y(tick)
            yield f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y}" y2="{y}"/>'
            yield f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{tick:.{digits}f}</text>'
        for tick in _ticks(self._first, self._last, max(4, self._width // 80), whole=whole):
            yield f'<text x="{self.x(tick)}" y="{bottom + 17}" text-anchor="middle">{shown(tick)}</text>'
        middle = (LEFT + right) / 2
        yield f'<text class="title" x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{_title(x_title, right)}</text>'
        height = (TOP + bottom) / 2
        yield (
            f'<text class="title" x="14" y="{height}" text-anchor="middle" '
            f'transform="rotate(-90 14 {height})">{_title(y_title, bottom)}</text>'
        )

    def level(self, student: Standing) -> str:
        y, right = self.y(student.score), self._width - RIGHT
        words = escape(f"student: {student}")
        return (
            f'<g class="point student" tabindex="0" role="img" aria-label="{words}">'
            f'<line class="student" x1="{LEFT}" x2="{right}" y1="{y}" y2="{y}"/>'
            f"{_tip((LEFT + right) / 2, y, str(words), self._width)}</g>"
        )

    def series(self, kind: Series, points: Sequence[Point], *, lines: bool) -> Iterator[str]:
        if lines and len(points) > 1:
            corners = " ".join(f"{self.x(point.x)},{self.y(point.y)}" for point in points)
            yield f'<polyline class="{kind}" points="{corners}"/>'
        radius = 4.5 if len(points) <= MANY_POINTS else 2.5
        for point in points:
            x, y = self.x(point.x), self.y(point.y)
            interval = ""
            if point.low is not None and point.high is not None:
                top, bottom = self.y(point.high), self.y(point.low)
                interval = f'<line class="{kind} interval" x1="{x}" x2="{x}" y1="{top}" y2="{bottom}"/>'
            yield (
                f'<g class="point {kind}" tabindex="0" role="img" aria-label="{escape(point.words)}">{interval}'
                f'<circle class="hit" cx="{x}" cy="{y}" r="11"/><circle class="{kind}" cx="{x}" cy="{y}" r="{radius}"/>'
                f"{_tip(x, y, point.words, self._width)}</g>"
            )


def _title(words: str, room: float) -> Markup:
    """Return the title of an axis, cut to the pixels that it has."""
    longest = int(room / WIDEST_CHARACTER)
    return escape(words if len(words) <= longest else f"{words[: longest - 1]}…")


def _tip(x: float, y: float, words: str, width: int) -> str:
    """Return the words that show while a point is hovered or focused, kept inside the picture."""
    half = min(len(words) * 3.1 + 8, width / 2 - 2)
    middle = min(max(x, half + 2), width - half - 2)
    above = y - 30 if y > 40 else y + 12
    squeeze = f' textLength="{2 * half - 12:.0f}" lengthAdjust="spacingAndGlyphs"' if len(words) * 6.2 > width else ""
    return (
        f'<g class="tip" aria-hidden="true"><rect x="{middle - half:.1f}" y="{above:.1f}" width="{2 * half:.1f}" '
        f'height="20" rx="4"/><text x="{middle:.1f}" y="{above + 14:.1f}" text-anchor="middle"{squeeze}>'
        f"{escape(words)}</text></g>"
    )


def _score_range(values: Iterable[float]) -> tuple[float, float]:
    """Return the ends of a score axis: 0 to 1 for scores within it, otherwise a little beyond the values."""
    known = list(values)
    low, high = min(known), max(known)
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    room = (high - low) * 0.05 or 0.5
    return (min(low - room, 0.0) if low < 0 else 0.0), high + room


def _padded(values: Sequence[float]) -> tuple[float, float]:
    """Return the ends of an axis a little beyond the values."""
    low, high = min(values), max(values)
    room = (high - low) * 0.08 or 0.1
    return low - room, high + room


def _ticks(low: float, high: float, count: int, *, whole: bool = False) -> list[float]:
    """Return about `count` round numbers from `low` to `high`."""
    raw = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(raw)) if raw > 0 else 1.0
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw - 1e-12)
    if whole:
        step = max(1.0, math.ceil(step))
    start = math.ceil(low / step - 1e-9)
    return [round(n * step, 10) for n in range(start, math.floor(high / step + 1e-9) + 1)]


def _whole(value: float) -> str:
    return f"{value:,.0f}"


def _dollars(value: float) -> str:
    return f"${value:.2f}" if value >= 1 else f"${value:.4g}"


def _decimals(value: float) -> str:
    return f"{value:.2f}"
