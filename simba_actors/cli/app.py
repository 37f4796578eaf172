"""All commands in one place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from simba_actors import __version__
from simba_actors.cli import channels, programs, runs, serving, watching

RUNS, PROGRAMS, CHANNELS, STORE = "Runs", "Programs", "Channels", "Store"


class CommandsOrStore(TyperGroup):
    """`simba-actors FILE.db [COMMAND …]` is `simba-actors [COMMAND …] --store FILE.db`, with `runs` as the default."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and _is_store(args[0], self.commands):
            command, *rest = args[1:] or ["runs"]
            args = [command, "--store", args[0], *rest]
        return super().parse_args(ctx, args)


def _is_store(word: str, commands: Any) -> bool:
    if word in commands or word.startswith("-"):
        return False
    try:
        return Path(word).suffix in (".db", ".sqlite", ".sqlite3") or Path(word).is_file()
    except (OSError, ValueError):  # No file has such a name.
        return False


app = typer.Typer(
    name="simba-actors",
    cls=CommandsOrStore,
    help="Look at the runs of a store, live or afterwards, and act on them.",
    epilog="The store is simba.db in this directory, $SIMBA_STORE, --store FILE, or a file before the command.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _print_version(value: bool) -> None:
    if value:
        print(__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Look at the runs of a store, live or afterwards, and act on them."""


app.command("runs", rich_help_panel=RUNS)(runs.runs)
app.command("show", rich_help_panel=RUNS)(runs.show)
app.command("watch", rich_help_panel=RUNS)(watching.watch)
app.command("compare", rich_help_panel=RUNS)(runs.compare)
app.command("fork", rich_help_panel=RUNS)(runs.fork)
app.command("program", rich_help_panel=PROGRAMS)(programs.program)
app.command("failures", rich_help_panel=PROGRAMS)(programs.failures)
app.command("why", rich_help_panel=PROGRAMS)(programs.why)
app.command("lineage", rich_help_panel=PROGRAMS)(programs.lineage)
app.command("export", rich_help_panel=PROGRAMS)(programs.export)
app.command("channels", rich_help_panel=CHANNELS)(channels.channels)
app.command("versions", rich_help_panel=CHANNELS)(channels.versions)
app.command("publish", rich_help_panel=CHANNELS)(channels.publish)
app.command("promote", rich_help_panel=CHANNELS)(channels.promote)
app.command("rollback", rich_help_panel=CHANNELS)(channels.rollback)
app.command("prune", rich_help_panel=CHANNELS)(channels.prune)
app.command("doctor", rich_help_panel=STORE)(runs.doctor)
app.command("serve", rich_help_panel=STORE)(serving.serve)
