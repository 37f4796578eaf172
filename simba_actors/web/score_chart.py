"""The scores of a run by step, as SVG."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from markupsafe import Markup

from simba_actors.store.pool_queries import Estimate
from simba_actors.store.queries import StepScores

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 720, 240, 44, 28, 12


MOST_POINTS = 120
"""Steps that one chart shows."""


def thinned(steps: Sequence[StepScores]) -> list[StepScores]:
    """All steps, or of very many every so manieth one and the last."""
    stride = -(-len(steps) // MOST_POINTS) or 1
    return [step for place, step in enumerate(steps) if place % stride == 0 or place == len(steps) - 1]


def score_chart(steps: Sequence[StepScores], student: Estimate | None) -> Markup:
    """Each step's sampled mean and its best candidate with 95 % intervals, over the student's own score."""
    if not steps:
        return Markup("")
    axis = _Axis.over(steps, student)
    parts = [*axis.lines()]
    if student is not None:
        y = axis.y(student.mean)
        parts.append(f'<line class="student" x1="{LEFT}" x2="{WIDTH}" y1="{y}" y2="{y}"/>')
    sampled = [(step.step, step.sampled) for step in steps if step.sampled is not None]
    best = [(step.step, step.best_score) for step in steps if step.best_score is not None]
    parts += [*_series("sampled", sampled, axis), *_series("best", best, axis)]
    label = f"Scores of {len(steps)} steps"
    return Markup(  # noqa: S704 - made of numbers and our own words
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
    )


class _Axis:
    """Where scores and steps are in the picture."""

    def __init__(self, first: int, last: int, low: float, high: float) -> None:
        self._first, self._last, self._low, self._high = first, last, low, high

    @classmethod
    def over(cls, steps: Sequence[StepScores], student: Estimate | None) -> _Axis:
        known = [e for step in steps for e in (step.sampled, step.best_score)] + [student]
        found = [estimate for estimate in known if estimate is not None]
        low = min(0.0, *(e.mean - (e.margin or 0) for e in found)) if any(e.mean < 0 for e in found) else 0.0
        high = max(e.mean + (e.margin or 0) for e in found)
        if all(e.mean <= 1 for e in found):
            high = 1.0  # Scores that are shares: no interval goes beyond them.
        return cls(steps[0].step, steps[-1].step, low, max(high, low + 1e-9))

    def x(self, step: int) -> float:
        share = (step - self._first + 0.5) / (self._last - self._first + 1)
        return round(LEFT + share * (WIDTH - LEFT), 1)

    def y(self, score: float) -> float:
        share = (min(max(score, self._low), self._high) - self._low) / (self._high - self._low)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP), 1)

    def lines(self) -> Iterator[str]:
        for part in range(5):
            score = self._low + (self._high - self._low) * part / 4
            y = self.y(score)
            yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH}" y1="{y}" y2="{y}"/>'
            yield f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{score:.2f}</text>'
        count = self._last - self._first + 1
        for step in range(self._first, self._last + 1, max(1, count // 12)):
            yield f'<text x="{self.x(step)}" y="{HEIGHT - 8}" text-anchor="middle">{step + 1}</text>'


def _series(kind: str, points: Sequence[tuple[int, Estimate]], axis: _Axis) -> Iterator[str]:
    corners = " ".join(f"{axis.x(step)},{axis.y(estimate.mean)}" for step, estimate in points)
    yield f'<polyline class="{kind}" points="{corners}"/>'
    for step, estimate in points:
        x, y = axis.x(step), axis.y(estimate.mean)
        if estimate.margin is not None:
            low, high = axis.y(estimate.mean - estimate.margin), axis.y(estimate.mean + estimate.margin)
            yield f'<line class="{kind}" x1="{x}" x2="{x}" y1="{low}" y2="{high}"/>'
        title = f"step {step + 1}: {estimate.mean:.3f}"
        yield f'<circle class="{kind}" cx="{x}" cy="{y}" r="4"><title>{title}</title></circle>'
