"""Wording of numbers and events, shared by the progress bar, the command line and the dashboard."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from simba_actors.search.rollout import Usage

if TYPE_CHECKING:
    from simba_actors.events import Event
    from simba_actors.store.queries.run_queries import RunSummary
    from simba_actors.store.queries.score_queries import Standing

LONGEST_VALUE = 300
"""Number of characters of an event's value that a line shows."""


FIRST_TIME, LAST_TIME = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)
"""The first and the last time that is shown: in every time zone they have a date that Python can write."""


def utc_time(seconds: float) -> datetime:
    """Return the time of a timestamp in UTC. One that Python has no date for is moved to the nearest that is shown."""
    return datetime.fromtimestamp(min(max(FIRST_TIME.timestamp(), seconds), LAST_TIME.timestamp()), UTC)


def progress_line(summary: RunSummary, rate: float | None = None, step: int | None = None) -> str:
    """Return the progress of a run in one line, the most important facts first, since narrow terminals cut the end.

    Scores have their 95 % intervals. As long as no program has a higher score, only the student's is shown.
    `rate` is in rollouts per second, None if unknown. `step` counts from 1; the default is the open step.
    """
    parts = [f"step {step or step_shown(summary)}/{summary.max_steps}"]
    best, student = summary.best, summary.student
    if best is not None:
        parts.append(f"{'student' if best.is_student else 'best'} {_score(best)}")
    if summary.run.status != "running":
        parts.append(summary.run.status)
    elif rate and (left := seconds_left(summary, rate)) is not None:
        parts.append(f"{duration(left)} left")
    if summary.notice is not None:
        parts.append("open in no process")
    parts.append(spending(summary.usage))
    if student is not None and student != best:
        parts.append(f"student {_score(student)}")
    parts.append(f"{summary.programs} programs")
    parts.append(f"{summary.rollouts_done:,} rollouts" + (f" at {rate:.1f}/s" if rate else ""))
    return ", ".join(parts)


def _score(standing: Standing) -> str:
    """Return a score with its 95 % interval, as in "0.43 (0.16 to 0.75)"."""
    return f"{standing.score:.2f} ({standing.low:.2f} to {standing.high:.2f})"


def step_shown(summary: RunSummary) -> int:
    """Return the open step counted from 1, or the last one if none is open."""
    return min(max(summary.steps_opened, 1), max(summary.max_steps, 1))


def spending(usage: Usage) -> str:
    """Return the cost in dollars if it is known, otherwise the tokens, otherwise the calls."""
    if usage.cost:
        return f"${usage.cost:.2f}" if usage.cost >= 1 else f"${usage.cost:.4f}"
    if usage.prompt_tokens is not None and usage.completion_tokens is not None:
        return f"{usage.prompt_tokens + usage.completion_tokens:,} tokens"
    return f"{usage.calls:,} calls"


def spent(usage: Usage) -> str:
    """Return calls, tokens and cost, as in "84 calls, 19,798 tokens, $0.0034"."""
    tokens = "tokens unknown" if usage.tokens is None else f"{usage.tokens:,} tokens"
    cost = "cost unknown" if usage.cost is None else f"${usage.cost:.4f}"
    return f"{usage.calls:,} calls, {tokens}, {cost}"


def seconds_left(summary: RunSummary, rate: float) -> float | None:
    """Return the seconds until the run ends if its rate stays the same; None if that is not known yet."""
    expected = summary.rollouts_expected()
    if expected is None:
        return None
    return (expected - summary.rollouts_done) / rate


def described(event: Event) -> str:
    """Return an event in one line: its kind and its fields. As in all texts for people, steps count from 1."""
    fields = event.own_fields()
    if isinstance(step := fields.get("step"), int) and step >= 0:
        fields["step"] = step + 1
    values = ((name, value) for name, value in fields.items() if value is not None)
    return " ".join([type(event).__name__, *(f"{name}={_short(value)}" for name, value in values)])


def _short(value: object) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"


def duration(seconds: float) -> str:
    """Return `seconds` as `4.2 s`, `3:07` or `2:03:07`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
