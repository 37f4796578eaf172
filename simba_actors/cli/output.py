"""Output of commands: JSON for programs, tables and text for people, errors in one line."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import typer

from simba_actors.errors import SimbaError
from simba_actors.observe.wording import utc_time
from simba_actors.runtime.logs import visible

if TYPE_CHECKING:
    from simba_actors.events import Event

R = TypeVar("R")

WIDTH_OF_FILES = 10_000
"""Columns of the output if it is not a terminal, so that nothing is cut."""


def run(work: Coroutine[Any, Any, R], *, as_json: bool) -> R:
    """Return what `work` returns. On an error of this library or of the file system, print one line and exit with 1."""
    try:
        return asyncio.run(work)
    except SimbaError as error:
        fail(error, as_json=as_json)
    except BrokenPipeError:
        raise
    except OSError as error:
        fail(error, as_json=as_json)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def fail(error: Exception, *, as_json: bool) -> NoReturn:
    """Print `error` in one line and exit with 1."""
    if as_json:
        print_json({"error": type(error).__name__, "message": str(error)})
    else:
        print(visible(f"{type(error).__name__}: {error}", keep=""), file=sys.stderr)
    raise typer.Exit(1)


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=True))


def print_json_line(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=True), flush=True)


def event_json(event: Event) -> dict[str, Any]:
    return {"seq": event.seq, "time": event.time, "kind": type(event).__name__, **event.own_fields()}


def print_text(text: str = "") -> None:
    """Print text that may contain what an LM wrote: control characters are written out."""
    print(visible(text), flush=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: Iterable[str] = ()) -> None:
    """Print a table without cutting any cell. Cells wrap, except in the first column and in `numbers`."""
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    right = set(numbers)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, column in enumerate(columns):
        table.add_column(
            Text(visible(column, keep="")),
            justify="right" if column in right else "left",
            no_wrap=place == 0 or column in right,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(Text(visible(str(cell), keep="")) for cell in row))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH_OF_FILES
    needed = Measurement.get(console, console.options.update(width=WIDTH_OF_FILES), table).minimum
    console.width = max(console.width, needed)
    console.print(table)


def print_tree(nodes: Mapping[int, tuple[int | None, str]]) -> None:
    """Print each node's label under the label of its parent, which comes before it."""
    from rich.console import Console
    from rich.text import Text
    from rich.tree import Tree

    root = Tree("", hide_root=True)
    trees: dict[int | None, Tree] = {None: root}
    for number, (parent, label) in nodes.items():
        trees[number] = trees[parent].add(Text(visible(label, keep=""), no_wrap=True, overflow="ignore"))
    console = Console(highlight=False)
    console.width = WIDTH_OF_FILES
    console.print(root)


def score(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def local_time(seconds: float) -> str:
    """Return a time in the user's zone."""
    return utc_time(seconds).astimezone().strftime("%Y-%m-%d %H:%M")
