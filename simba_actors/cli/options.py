"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

StorePath: TypeAlias = Annotated[
    Path, typer.Option("--store", "-s", envvar="SIMBA_STORE", help="The SQLite file that keeps the runs.")
]
AsJSON: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON, for other programs.")]
RunId: TypeAlias = Annotated[str, typer.Argument(metavar="RUN", help="The run's name, as `runs` lists it.")]
ProgramNumber: TypeAlias = Annotated[int, typer.Argument(metavar="N", help="The program's number in the pool.")]
ChannelName: TypeAlias = Annotated[str, typer.Argument(metavar="CHANNEL", help="Where live programs get theirs from.")]
Reason: TypeAlias = Annotated[str, typer.Option("--reason", "-m", help="Why, for the history.")]

DEFAULT_STORE = Path("simba.db")
