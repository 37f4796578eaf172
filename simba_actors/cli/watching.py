"""The command that follows a run until it ends."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import anyio
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from simba_actors.cli.arguments import DEFAULT_STORE, AsJSON, RunName, StorePath
from simba_actors.cli.curve import ASCII, CurvePoint, score_curve
from simba_actors.cli.output import event_json, print_json_line, print_text, run
from simba_actors.cli.runs import trend_text
from simba_actors.errors import SimbaError
from simba_actors.events import Event
from simba_actors.observe.wording import described, progress_line
from simba_actors.runtime.logs import visible
from simba_actors.store import Reader
from simba_actors.store.queries import lookup, run_queries, score_queries
from simba_actors.store.queries.run_queries import RunSummary, StepScores
from simba_actors.store.queries.score_queries import StepSpending

REDRAW_SECONDS = 0.5
"""Seconds between two reads of the store."""

EVENTS_SHOWN = 6
"""Number of latest events on the screen."""

BAR = 20
"""Width of a bar in columns."""

KEYS: Mapping[str, Literal["pause", "resume", "quit"]] = {"p": "pause", "r": "resume", "q": "quit", "\x03": "quit"}
"""Action of each key."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that is on the screen at one time."""

    summary: RunSummary
    steps: Sequence[StepScores]
    spending: Sequence[StepSpending]
    trend: Any
    events: Sequence[Event]


def watch(run_name: RunName = None, store: StorePath = DEFAULT_STORE, as_json: AsJSON = False) -> None:
    """Follow a run until it ends. Keys: p pauses it, r resumes it, q leaves. With --json: its events, one a line."""
    if as_json:
        run(_print_events(store, run_name), as_json=True)
        return
    console = Console(highlight=False)
    run(_draw(store, run_name, console) if console.is_terminal else _print_lines(store, run_name), as_json=False)


async def _print_events(store: Path, run_name: str | None) -> None:
    from simba_actors.observe.feed import follow_events

    async for event in follow_events(store, await _run_id(store, run_name)):
        print_json_line(event_json(event))


async def _print_lines(store: Path, run_name: str | None) -> None:
    run_id = await _run_id(store, run_name)
    async with await Reader.open(store) as queries:
        summary = await queries.ask(run_queries.summary, run_id)
    if summary.over:
        print_text(progress_line(summary))
        if summary.run.reason:
            print_text(summary.run.reason)
    else:
        from simba_actors.observe.progress import StoredRun, follow_progress

        await follow_progress(StoredRun(store, run_id), sys.stdout)


async def _run_id(store: Path, run_name: str | None) -> str:
    async with await Reader.open(store) as queries:
        return await queries.ask(lookup.find_run_id, run_name)


async def _draw(store: Path, run_name: str | None, console: Console) -> None:
    async with await Reader.open(store) as queries:
        run_id = await queries.ask(lookup.find_run_id, run_name)
        snapshot = await _snapshot(queries, run_id, console.width)
        started, done = time.monotonic(), snapshot.summary.rollouts_done
        message, quitting = "", False
        with _pressed_keys() as pressed, Live(console=console, auto_refresh=False) as live:
            while True:
                elapsed = max(time.monotonic() - started, 1e-3)
                rate = (snapshot.summary.rollouts_done - done) / elapsed or None
                live.update(_picture(snapshot, rate, message, console), refresh=True)
                if snapshot.summary.over or quitting:
                    return
                await anyio.sleep(REDRAW_SECONDS)
                for key in pressed():
                    match KEYS.get(key):
                        case "quit":
                            quitting = True
                        case "pause" | "resume" as kind:
                            message = await _send(store, run_id, kind)
                        case None:
                            pass
                snapshot = await _snapshot(queries, run_id, console.width)


async def _send(store: Path, run_id: str, kind: Literal["pause", "resume"]) -> str:
    """Ask the run's owner, and return what to show about it."""
    from simba_actors.cli.control import send

    try:
        await send(store, run_id, kind, f"{kind} by a key of simba-actors watch")
    except SimbaError as error:
        return str(error)
    return f"asked to {kind}"


async def _snapshot(queries: Reader, run_id: str, width: int) -> Snapshot:
    """Return what a screen of `width` columns shows: of a run of more steps, evenly chosen ones."""
    summary, last = await queries.ask(run_queries.summary, run_id), await queries.last_event(run_id)
    steps = {*run_queries.evenly_chosen(summary.steps_opened, max(1, width)), summary.steps_closed - 1}
    return Snapshot(
        summary,
        await queries.ask(run_queries.step_scores, run_id, steps),
        await queries.ask(score_queries.spending_by_step, run_id, steps),
        await queries.ask(run_queries.latest_estimate, run_id, "TrendEstimated"),
        await queries.events(run_id, max(0, last - EVENTS_SHOWN)),
    )


def _picture(snapshot: Snapshot, rate: float | None, message: str, console: Console) -> Group:
    summary = snapshot.summary
    title = Text.assemble((visible(summary.run.run_id, keep=""), "bold"), f"  {summary.run.status}")
    if summary.run.reason:
        title.append(f": {visible(summary.run.reason, keep='')}")
    if summary.notice:
        title.append(f" ({summary.notice})")
    glyphs = ASCII if console.options.ascii_only else None
    student = None if summary.student is None else summary.student.score
    lines: list[Text] = [title, score_curve(_points(snapshot), student, width=console.width, glyphs=glyphs)]
    standings = [(kind, s) for kind, s in (("best", summary.best), ("student", summary.student)) if s is not None]
    lines += [Text(f"{kind:8} program {known.program}: {known}") for kind, known in standings]
    if snapshot.trend is not None:
        lines.append(Text(f"samples  {trend_text(snapshot.trend)}"))
    lines.append(Text(progress_line(summary, rate)))
    lines += _bars(snapshot, ascii_only=glyphs is not None)
    if not summary.over:
        for event in snapshot.events:
            line = Text(visible(described(event), keep=""), style="dim", no_wrap=True, overflow="ellipsis")
            line.truncate(console.width, overflow="ellipsis")
            lines.append(line)
        keys = "p pause   r resume   q leave"
        lines.append(Text(f"{keys}   {visible(message, keep='')}".rstrip(), "bold"))
    return Group(*lines)


def _points(snapshot: Snapshot) -> list[CurvePoint]:
    best = {spent.step: spent.best for spent in snapshot.spending}
    points: list[CurvePoint] = []
    for step in snapshot.steps:
        known = best.get(step.step)
        sampled = None if step.sampled is None else step.sampled.mean
        if known is not None:
            points.append(CurvePoint(known.score, known.low, known.high, sampled))
        else:
            points.append(CurvePoint(sampled=sampled))
    return points


def _bars(snapshot: Snapshot, *, ascii_only: bool) -> list[Text]:
    """Return a bar for the concurrency slots in use, and one for each cap of the budget."""
    summary, settings = snapshot.summary, snapshot.summary.run.settings
    bars: list[Text] = []
    slots, running = settings.get("max_concurrency"), summary.rollouts_running
    if running is not None and isinstance(slots, int) and slots > 0:
        bars.append(_bar("slots", running, slots, f"{running} of {slots} in use", ascii_only))
    budget = cast("dict[str, Any]", settings.get("budget") or {})
    usage = summary.usage
    for cap, used, shown, unit in (
        ("max_calls", usage.calls, "{:,.0f}", " calls"),
        ("max_tokens", usage.tokens, "{:,.0f}", " tokens"),
        ("max_cost", usage.cost, "${:.4f}", ""),
    ):
        limit = budget.get(cap)
        if limit and used is not None:
            words = f"{shown.format(used)} of {shown.format(limit)}{unit}"
            bars.append(_bar("budget", used, limit, words, ascii_only))
    return bars


def _bar(name: str, value: float, limit: float, words: str, ascii_only: bool) -> Text:
    full, empty = ("#", ".") if ascii_only else ("█", "░")
    filled = min(BAR, round(BAR * value / limit))
    return Text(f"{name:8} {full * filled}{empty * (BAR - filled)} {words}")


@contextmanager
def _pressed_keys() -> Generator[Callable[[], str]]:
    """Yield a function that returns the keys pressed since its last call; none if stdin is not a terminal."""
    if not sys.stdin.isatty():
        yield lambda: ""
        return
    try:
        import select
        import termios
        import tty
    except ImportError:  # Windows has none of them.
        yield lambda: ""
        return
    stdin = sys.stdin.fileno()
    before = termios.tcgetattr(stdin)

    def pressed() -> str:
        keys = ""
        while select.select([stdin], [], [], 0)[0]:
            byte = os.read(stdin, 1)  # Not from sys.stdin, whose buffer `select` does not see.
            if not byte:
                break
            keys += byte.decode("latin-1")
        return keys

    tty.setcbreak(stdin)
    try:
        yield pressed
    finally:
        with contextlib.suppress(termios.error):  # The terminal may be gone.
            termios.tcsetattr(stdin, termios.TCSADRAIN, before)
