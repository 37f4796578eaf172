"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

DEFAULT_STORE = Path("simba.db")

LARGEST_NUMBER = 2**63 - 1
"""The largest integer that SQLite can hold."""


def _checked_text(text: str | None) -> str | None:
    """Return `text`. Raise BadParameter if SQLite or the file system can't take it."""
    if text is not None:
        check_words([text])
    return text


def checked_number(number: int | None) -> int | None:
    """Return `number`. Raise BadParameter if SQLite can't take it."""
    if number is not None and abs(number) > LARGEST_NUMBER:
        raise typer.BadParameter(f"{number} is too large a number")
    return number


def _checked_path(path: Path) -> Path:
    check_words([str(path)])
    return path


def check_words(words: list[str]) -> list[str]:
    """Return `words`. Raise BadParameter if one of them has a NUL or bytes that are not UTF-8."""
    for word in words:
        if "\0" in word:
            raise typer.BadParameter(f"{word!r} contains a NUL character")
        if any("\ud800" <= character <= "\udfff" for character in word):
            raise typer.BadParameter(f"{word!r} contains bytes that are not UTF-8")
    return words


StorePath: TypeAlias = Annotated[
    Path,
    typer.Option(
        "--store", "-s", envvar="SIMBA_STORE", help="The SQLite file that keeps the runs.", callback=_checked_path
    ),
]
AsJSON: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON, for other programs.")]
RunName: TypeAlias = Annotated[
    str | None,
    typer.Argument(
        metavar="[RUN]",
        show_default=False,
        callback=_checked_text,
        help="The run's name, the start of it, or `latest`. Not needed if the store has one run.",
    ),
]
RunAndProgram: TypeAlias = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RUN] [N]",
        show_default=False,
        help="The run, as for `show`, and the program: its number, `best` (the default) or `student`.",
    ),
]
ChannelName: TypeAlias = Annotated[
    str,
    typer.Argument(metavar="CHANNEL", help="The channel that live programs read.", callback=_checked_text),
]
Reason: TypeAlias = Annotated[
    str | None,
    typer.Option("--reason", "-m", help="Why, for the history.", show_default=False, callback=_checked_text),
]


def run_and_program(words: list[str] | None) -> tuple[str | None, str | None]:
    """Split "[RUN] [N]" into the run and the program. A single number, `best` or `student` is the program."""
    match check_words(list(words or [])):
        case []:
            return None, None
        case [only] if is_program(only):
            return None, only
        case [only]:
            return only, None
        case [run, program] if is_program(program):
            return run, program
        case [_, program]:
            raise typer.BadParameter(f"{program!r} must be a program's number, `best` or `student`", param_hint="N")
        case _:
            raise typer.BadParameter("too many arguments: give a run and a program", param_hint="[RUN] [N]")


def is_program(word: str) -> bool:
    """Return whether `word` names a program rather than a run."""
    return word in ("best", "student") or (word.isascii() and word.isdecimal())
