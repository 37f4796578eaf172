"""A bar in the terminal, drawn by rich (extra `progress`)."""

from __future__ import annotations

from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

from simba_actors.events import Event, RunPaused
from simba_actors.observe.wording import progress_line
from simba_actors.runtime.logs import visible
from simba_actors.store.queries.run_queries import RunSummary

BAR_WIDTH = 16
"""Width of the bar in columns. It leaves most of a terminal's 80 columns to the description."""


class ProgressBar:
    """A bar of the rollouts done of those expected, and a description beside it. Messages are printed above it."""

    def __init__(self, stream: TextIO) -> None:
        self._progress = Progress(
            BarColumn(bar_width=BAR_WIDTH, table_column=Column(min_width=BAR_WIDTH)),
            TextColumn("{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True)),
            console=Console(file=stream),
            auto_refresh=False,
            expand=True,
        )
        self._task = self._progress.add_task("starting", total=None)

    def __enter__(self) -> ProgressBar:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show_event(self, event: Event, summary: RunSummary, rate: float | None) -> None:
        if isinstance(event, RunPaused):
            self._progress.console.print(f"paused: {visible(event.reason)}", markup=False, highlight=False)
        self.redraw(summary, rate)

    def redraw(self, summary: RunSummary, rate: float | None) -> None:
        self._progress.update(
            self._task,
            description=progress_line(summary, rate),
            completed=summary.rollouts_done,
            total=summary.rollouts_expected(),
            refresh=True,
        )
