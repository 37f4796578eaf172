"""All commands of `simba-actors`.

Building a command takes typer about 10 ms, so `simba-actors runs` builds no command but `runs`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from inspect import cleandoc
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup


@dataclass(frozen=True, slots=True)
class Command:
    """Location of a command: its heading in the help, and the module of `simba_actors.cli` with its function."""

    heading: str
    module: str


COMMANDS: Mapping[str, Command] = {
    "runs": Command("Runs", "runs"),
    "show": Command("Runs", "runs"),
    "watch": Command("Runs", "watching"),
    "compare": Command("Runs", "runs"),
    "pause": Command("Runs", "control"),
    "resume": Command("Runs", "control"),
    "stop": Command("Runs", "control"),
    "fork": Command("Runs", "runs"),
    "program": Command("Programs", "programs"),
    "failures": Command("Programs", "programs"),
    "why": Command("Programs", "programs"),
    "lineage": Command("Programs", "programs"),
    "export": Command("Programs", "programs"),
    "channels": Command("Channels", "channels"),
    "versions": Command("Channels", "channels"),
    "publish": Command("Channels", "channels"),
    "promote": Command("Channels", "channels"),
    "rollback": Command("Channels", "channels"),
    "prune": Command("Channels", "channels"),
    "doctor": Command("Store", "runs"),
    "serve": Command("Store", "serving"),
    "student": Command("Students elsewhere", "students"),
    "conformance": Command("Students elsewhere", "students"),
}
"""All commands. Each is a function of the same name."""


EPILOG = """The store is simba.db in this directory, or $SIMBA_STORE, --store FILE, or FILE.db as the first word.

Examples: `simba-actors watch`, `simba-actors old.db failures latest best`, `simba-actors export best.json`."""
"""End of the help. Line breaks within a paragraph would be printed."""

SUFFIXES = (".db", ".sqlite", ".sqlite3")
"""Endings of the names of stores."""


class CommandsOrStore(TyperGroup):
    """`simba-actors FILE.db [COMMAND …]` is `simba-actors [COMMAND …] --store FILE.db`, with `runs` as the default.

    So is `simba-actors COMMAND FILE.db …`.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and is_store(args[0]):
            command, *rest = args[1:] or ["runs"]
            args = [command, "--store", args[0], *rest]
        elif len(args) > 1 and args[0] in COMMANDS and Path(args[1]).suffix in SUFFIXES:
            command, store, *rest = args
            args = [command, "--store", store, *rest]
        return super().parse_args(ctx, args)


def is_store(word: str) -> bool:
    """Return whether the first word of a command line is a store rather than a command or an option."""
    if word in COMMANDS or word.startswith("-"):
        return False
    try:
        return Path(word).suffix in SUFFIXES or Path(word).is_file()
    except (OSError, ValueError):  # No file has such a name.
        return False


def make_app(words: Sequence[str] | None = None) -> typer.Typer:
    """Return the application with the command that `words` name, or with all commands if they name none."""
    app = typer.Typer(
        name="simba-actors",
        cls=CommandsOrStore,
        help="Look at the runs of a store, live or afterwards, and act on them.",
        epilog=_unwrapped(EPILOG),
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )
    app.callback()(options)
    for name in _named_in(words):
        function = getattr(import_module(f"simba_actors.cli.{COMMANDS[name].module}"), name)
        app.command(name, help=_unwrapped(function.__doc__), rich_help_panel=COMMANDS[name].heading)(function)
    return app


def _unwrapped(text: str) -> str:
    """Join the lines of each paragraph, since typer keeps their ends in all but the first."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in cleandoc(text).split("\n\n"))


def _named_in(words: Sequence[str] | None) -> Sequence[str]:
    match list(words or []):
        case [name, *_] if name in COMMANDS:
            return [name]
        case [store] if is_store(store):
            return ["runs"]
        case [store, name, *_] if is_store(store) and name in COMMANDS:
            return [name]
        case _:
            return list(COMMANDS)


def _print_version(value: bool) -> None:
    if value:
        from simba_actors import __version__

        print(__version__)
        raise typer.Exit


def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Look at the runs of a store, live or afterwards, and act on them."""
