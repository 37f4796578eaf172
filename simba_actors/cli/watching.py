"""The command that follows a run while it goes on."""

from __future__ import annotations

import time
from pathlib import Path

import anyio
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from simba_actors.cli.curve import ASCII, score_curve
from simba_actors.cli.options import DEFAULT_STORE, AsJSON, RunId, StorePath
from simba_actors.cli.output import event_json, print_json_line, print_text, run
from simba_actors.cli.runs import sampled_trend
from simba_actors.observe.feed import follow_events
from simba_actors.observe.progress import REDRAW_SECONDS, StoredRun, follow_progress, rate_since
from simba_actors.observe.wording import progress_line, visible
from simba_actors.store.queries import Queries, RunSummary, StepScores


def watch(run_id: RunId, store: StorePath = DEFAULT_STORE, as_json: AsJSON = False) -> None:
    """Follow a run until it ends: its scores by step and its progress, or with --json its events, one a line."""
    if as_json:
        run(_print_events(store, run_id), as_json=True)
        return
    console = Console(highlight=False)
    run(_draw(store, run_id, console) if console.is_terminal else _print_lines(store, run_id), as_json=False)


async def _print_events(store: Path, run_id: str) -> None:
    async for event in follow_events(store, run_id):
        print_json_line(event_json(event))


async def _print_lines(store: Path, run_id: str) -> None:
    async with await Queries.open(store) as queries:
        summary = await queries.summary(run_id)
    if summary.over:
        print_text(progress_line(summary))
        if summary.run.reason:
            print_text(summary.run.reason)
    else:
        await follow_progress(StoredRun(store, run_id))


async def _draw(store: Path, run_id: str, console: Console) -> None:
    async with await Queries.open(store) as queries:
        summary, steps = await queries.summary(run_id), await queries.step_scores(run_id)
        rate = rate_since(summary.rollouts_done, time.monotonic)
        with Live(console=console, auto_refresh=False) as live:
            live.update(_picture(summary, steps, rate(summary), console), refresh=True)
            while not summary.over:
                await anyio.sleep(REDRAW_SECONDS)
                summary, steps = await queries.summary(run_id), await queries.step_scores(run_id)
                live.update(_picture(summary, steps, rate(summary), console), refresh=True)


def _picture(summary: RunSummary, steps: list[StepScores], rate: float | None, console: Console) -> Group:
    run_ = summary.run
    title = Text.assemble((visible(run_.run_id, keep=""), "bold"), f"  {run_.status}")
    if run_.reason:
        title.append(f": {visible(run_.reason, keep='')}")
    glyphs = ASCII if console.options.ascii_only else None
    curve = score_curve(steps, summary.student, width=console.width, glyphs=glyphs)
    trend = sampled_trend(summary, steps)
    told = [] if trend is None else [Text(f"samples {trend}")]
    return Group(title, curve, *told, Text(progress_line(summary, rate)))
