"""Numbers in words, the same in the progress bar, the command line and the dashboard."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

from simba_actors.events import Event, to_json
from simba_actors.search.trajectory import Usage

if TYPE_CHECKING:
    from simba_actors.store.queries import RunSummary

LONGEST_VALUE = 300
"""Characters of one value of an event that a line shows."""


def progress_line(summary: RunSummary, rate: float | None = None, step: int | None = None) -> str:
    """How far a run is, in one line, what matters most first: narrow terminals cut its end.

    `rate` is in rollouts a second, where it is known; `step` counts from 1, by default the open one.
    """
    parts = [f"step {step or step_shown(summary)}/{summary.max_steps}"]
    if summary.best is not None:
        parts.append(f"best {summary.best[1]:.3f}")
    if summary.run.status != "running":
        parts.append(summary.run.status)
    elif rate and (left := seconds_left(summary, rate)) is not None:
        parts.append(f"{duration(left)} left")
    parts.append(spending(summary.usage))
    if summary.student is not None:
        parts.append(f"student {summary.student.mean:.3f}")
    parts.append(f"{summary.programs} programs")
    parts.append(f"{summary.rollouts_done:,} rollouts" + (f" at {rate:.1f}/s" if rate else ""))
    return ", ".join(parts)


def step_shown(summary: RunSummary) -> int:
    """The open step counted from 1, or the last one when none is open."""
    return min(max(summary.steps_opened, 1), max(summary.max_steps, 1))


def spending(usage: Usage) -> str:
    """Cost in dollars where it is known, otherwise tokens, otherwise calls."""
    if usage.cost:
        return f"${usage.cost:.2f}" if usage.cost >= 1 else f"${usage.cost:.4f}"
    if usage.prompt_tokens is not None and usage.completion_tokens is not None:
        return f"{usage.prompt_tokens + usage.completion_tokens:,} tokens"
    return f"{usage.calls:,} calls"


def seconds_left(summary: RunSummary, rate: float) -> float | None:
    """Until the run ends, if it goes on as before; None while that can't be told."""
    expected = summary.rollouts_expected()
    if expected is None:
        return None
    return (expected - summary.rollouts_done) / rate


def described(event: Event) -> str:
    """An event in one line: its kind and what it tells."""
    values = ((name, value) for name, value in to_json(event).items() if value is not None)
    return " ".join([type(event).__name__, *(f"{name}={_short(value)}" for name, value in values)])


def _short(value: object) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"


def visible(text: str, *, keep: str = "\n\t") -> str:
    """`text` with control, bidirectional and other invisible characters written out, as in `\\u202e`.

    What an LM wrote can then neither steer a terminal nor change how a reader sees it. `keep` is left as it is.
    """
    return "".join(
        char if char in keep or unicodedata.category(char) not in _HIDDEN else _written_out(char) for char in text
    )


def _written_out(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


_HIDDEN = frozenset({"Cc", "Cf", "Co", "Cs", "Zl", "Zp"})
"""Unicode categories of characters that show nothing themselves: controls, formats, private, surrogates, separators."""


def duration(seconds: float) -> str:
    """`4.2 s`, `3:07` or `2:03:07`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
