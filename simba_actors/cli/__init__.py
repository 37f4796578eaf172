"""The command line: look at a store's runs, live or afterwards, and act on them.

simba-actors runs
simba-actors watch RUN
simba-actors program RUN 7
simba-actors export RUN best.json
simba-actors serve
"""

from __future__ import annotations

import sys


def main() -> None:
    """The command `simba-actors`. It needs the extra `cli`."""
    try:
        import typer  # noqa: F401  # pyright: ignore[reportUnusedImport] - whether it is there is all that is asked
    except ImportError:
        sys.exit("simba-actors needs typer: pip install 'simba_actors[cli]'")
    from simba_actors.cli.app import app

    app()
