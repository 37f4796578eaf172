"""What commands print: JSON for programs, tables and text for people, errors in one line."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

import typer
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from simba_actors.errors import SimbaError
from simba_actors.events import Event, to_json
from simba_actors.observe.wording import visible

R = TypeVar("R")

WIDTH_OF_FILES = 10_000
"""Columns where the output is no terminal, so that no cell is cut."""


def run(work: Coroutine[Any, Any, R], *, as_json: bool) -> R:
    """What `work` gives. An error of ours ends the command with exit code 1 and its message."""
    try:
        return asyncio.run(work)
    except SimbaError as error:
        fail(error, as_json=as_json)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def fail(error: Exception, *, as_json: bool) -> NoReturn:
    if as_json:
        print_json({"error": type(error).__name__, "message": str(error)})
    else:
        print(visible(f"{type(error).__name__}: {error}"), file=sys.stderr)
    raise typer.Exit(1)


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=True))


def print_json_line(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=True), flush=True)


def event_json(event: Event) -> dict[str, Any]:
    return {"seq": event.seq, "time": event.time, "kind": type(event).__name__, **to_json(event)}


def print_text(text: str = "") -> None:
    """Text that may hold an LM's words."""
    print(visible(text), flush=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(Text(visible(str(cell), keep="")) for cell in row))
    _print(table)


def print_tree(nodes: Mapping[int, tuple[int | None, str]]) -> None:
    """Each node's label under that of its parent, which comes before it."""
    root = Tree("", hide_root=True)
    trees: dict[int | None, Tree] = {None: root}
    for number, (parent, label) in nodes.items():
        trees[number] = trees[parent].add(Text(visible(label, keep="")))
    _print(root)


def _print(renderable: RenderableType) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH_OF_FILES
    console.print(renderable)


def score(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
