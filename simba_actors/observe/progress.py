"""Progress in the terminal: a bar that is redrawn, or a line per step if the output is not a terminal.

    async with await Optimizer.start(config) as optimizer, show_progress(optimizer):
        result = await optimizer.result()

`OptimizerConfig(progress=True)` does the same.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager, aclosing, asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TextIO

import anyio

from simba_actors.actors import SHUTDOWN, spawn
from simba_actors.events import Event, RunFailed, RunFinished, RunPaused, RunResumed, StepClosed
from simba_actors.observe.feed import follow_events
from simba_actors.observe.notebook import NotebookProgress, in_notebook
from simba_actors.observe.wording import progress_line
from simba_actors.runtime.logs import visible
from simba_actors.store import Reader
from simba_actors.store.queries import run_queries
from simba_actors.store.queries.run_queries import RunSummary

REDRAW_SECONDS = 0.5


class Watched(Protocol):
    """A run whose progress can be shown, such as an Optimizer."""

    @property
    def run_id(self) -> str: ...
    @property
    def store(self) -> Path: ...
    def events(self, after: int = 0) -> AsyncGenerator[Event]: ...


class Display(Protocol):
    def show_event(self, event: Event, summary: RunSummary, rate: float | None) -> None:
        """Show what `event` changed. `rate` is in rollouts per second, None if unknown."""
        ...

    def redraw(self, summary: RunSummary, rate: float | None) -> None: ...


@asynccontextmanager
async def show_progress(optimizer: Watched, stream: TextIO | None = None) -> AsyncGenerator[None]:
    """Show the run's step, best score, rollouts and their rate, cost and time left while the block runs.

    Writes to `stream`, by default stderr. The bar needs the extra `progress`; without it a line is written for each
    step. If the stream can't be written to, that is logged and does not disturb the block.
    """
    shown = spawn(follow_progress, optimizer, stream, name="progress")
    try:
        yield
    finally:
        shown.exit(SHUTDOWN)
        await shown.wait()


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run in a store, which another process may be working on, for `follow_progress`."""

    store: Path
    run_id: str

    def events(self, after: int = 0) -> AsyncGenerator[Event]:
        return follow_events(self.store, self.run_id, after)


async def follow_progress(optimizer: Watched, stream: TextIO | None = None) -> None:
    """Show the run's progress until the run ends."""
    async with await Reader.open(optimizer.store) as store:
        first = await store.ask(run_queries.summary, optimizer.run_id)
        rate = rate_since(first.rollouts_done, time.monotonic)
        with display_on(stream or sys.stderr) as display:
            events = optimizer.events(await store.last_event(optimizer.run_id))
            try:
                async with aclosing(events), anyio.create_task_group() as tasks:
                    tasks.start_soon(_redraw, store, optimizer.run_id, display, rate)
                    async for event in events:
                        if isinstance(event, StepClosed | RunPaused | RunResumed | RunFinished | RunFailed):
                            summary = await store.ask(run_queries.summary, optimizer.run_id)
                            display.show_event(event, summary, rate(summary))
                    tasks.cancel_scope.cancel()
            except ExceptionGroup as group:  # Of the task group. Callers expect the error itself.
                raise group.exceptions[0] from None
            finally:
                with anyio.CancelScope(shield=True):  # What stays on the terminal is where the run stands now.
                    summary = await store.ask(run_queries.summary, optimizer.run_id)
                    display.redraw(summary, rate(summary))


async def _redraw(store: Reader, run_id: str, display: Display, rate: Callable[[RunSummary], float | None]) -> None:
    while True:
        summary = await store.ask(run_queries.summary, run_id)
        display.redraw(summary, rate(summary))
        await anyio.sleep(REDRAW_SECONDS)


def rate_since(done: int, clock: Callable[[], float]) -> Callable[[RunSummary], float | None]:
    """Return a function of rollouts per second from now on, when `done` are over already; None before the next one."""
    started = clock()

    def rate(summary: RunSummary) -> float | None:
        return (summary.rollouts_done - done) / max(clock() - started, 1e-3) or None

    return rate


def display_on(stream: TextIO) -> AbstractContextManager[Display]:
    if stream.isatty() and importlib.util.find_spec("rich") is not None:
        from simba_actors.observe.progress_bar import ProgressBar

        return ProgressBar(stream)
    if stream is sys.stderr and in_notebook():
        return nullcontext(NotebookProgress())
    return nullcontext(Lines(stream))


class Lines:
    """A line for each step, pause and end."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def show_event(self, event: Event, summary: RunSummary, rate: float | None) -> None:
        match event:
            case StepClosed(step=step):
                print(progress_line(summary, rate, step=step + 1), file=self._stream, flush=True)
            case RunPaused(reason=reason):
                print(f"paused: {visible(reason)}", file=self._stream, flush=True)
            case RunFailed(reason=reason):
                print(f"failed: {visible(reason)}", file=self._stream, flush=True)
            case RunFinished(program=program, score=score):
                print(f"finished: program {program} with {score:.3f}", file=self._stream, flush=True)
            case _:
                pass

    def redraw(self, summary: RunSummary, rate: float | None) -> None:
        """Lines stay as they are."""
