"""The command line within this process."""

from __future__ import annotations

from collections.abc import Sequence

from typer.testing import CliRunner, Result

from simba_actors.cli.app import make_app


def run_command(words: Sequence[object], **environment: str) -> Result:
    """Run `simba-actors` with these words. As in a terminal, only the command that they name is built."""
    line = list(map(str, words))
    return CliRunner(env=environment).invoke(make_app(line), line)
