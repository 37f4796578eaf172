"""What results look like in a notebook, and progress that is redrawn in place.

Every text is escaped: instructions, demos and errors may hold what an LM wrote. Styles are inline and work on light and
dark pages, since a notebook has no place for a style sheet.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from simba_actors.events import Event, RunFailed, RunFinished, RunPaused
from simba_actors.observe.wording import progress_line
from simba_actors.runtime.logs import visible
from simba_actors.store.queries.run_queries import RunSummary

_COLORS = {"+": "rgba(46, 160, 67, 0.2)", "-": "rgba(248, 81, 73, 0.2)"}

_CELL = "text-align: left; padding: 2px 12px 2px 0"

_NUMBER = "text-align: right; padding: 2px 12px 2px 0; font-variant-numeric: tabular-nums"


class ProgramDiff(str):
    """A unified diff of two programs: a string that a notebook shows with its additions and removals in color."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return diff_html(self)


def diff_html(diff: str) -> str:
    """Return a unified diff as HTML, without its line numbers."""
    lines = (
        f'<span style="background: {_COLORS.get(line[:1], "none")}">{shown(line)}</span>'
        for line in diff.splitlines()
        if not line.startswith(("--- ", "@@"))
    )
    return f'<pre style="white-space: pre-wrap">{"<br>".join(lines) or "no difference"}</pre>'


def shown(text: object) -> str:
    """Return `text` as HTML, with invisible characters written out."""
    return escape(visible(str(text)))


def table(rows: Iterable[Sequence[object]], headings: Sequence[str] = ()) -> str:
    """Return a table. The first cell of each row is its heading; numbers are aligned at the right."""
    head = "".join(f'<th scope="col" style="{_CELL}">{shown(text)}</th>' for text in headings)
    body = "".join(f"<tr>{''.join(_cell(cell, n) for n, cell in enumerate(row))}</tr>" for row in rows)
    return f"<table>{f'<thead><tr>{head}</tr></thead>' if head else ''}<tbody>{body}</tbody></table>"


def _cell(value: object, column: int) -> str:
    if column == 0:
        return f'<th scope="row" style="{_CELL}">{shown(value)}</th>'
    text = f"{value:.3f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else shown(value)
    return f'<td style="{_NUMBER if isinstance(value, int | float) else _CELL}">{text}</td>'


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    shell: Any = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


class NotebookProgress:
    """Progress as one line of a cell's output, which is redrawn in place."""

    def __init__(self) -> None:
        from IPython import display

        self._html: Any = display.HTML
        self._handle: Any = None
        self._display: Any = display.display
        self._note, self._shown = "", ""

    def show_event(self, event: Event, summary: RunSummary, rate: float | None) -> None:
        match event:
            case RunPaused(reason=reason) | RunFailed(reason=reason):
                self._note = f" ({reason})"
            case RunFinished(program=program, score=score):
                self._note = f" (program {program} with {score:.3f})"
            case _:
                self._note = ""
        self.redraw(summary, rate)

    def redraw(self, summary: RunSummary, rate: float | None) -> None:
        steps, done = summary.max_steps, summary.steps_closed
        if summary.over:
            done = steps
        line = shown(f"{progress_line(summary, rate)}{self._note}")
        content = f'<progress max="{max(steps, 1)}" value="{done}"></progress> {line}'
        if content == self._shown:
            return
        self._shown = content
        if self._handle is None:
            self._handle = self._display(self._html(content), display_id=True)
        else:
            self._handle.update(self._html(content))
