"""The command line: look at the runs of a store, live or afterwards, and act on them.

simba-actors runs
simba-actors watch
simba-actors failures latest best
simba-actors export latest best.json
simba-actors serve
"""

from __future__ import annotations

import io
import os
import sys


def main() -> None:
    """Run the command `simba-actors`. It needs the extra `cli`."""
    try:
        import typer  # noqa: F401  # pyright: ignore[reportUnusedImport] - only whether it is installed matters
    except ImportError:
        sys.exit("simba-actors needs typer: pip install 'simba_actors[cli]'")
    from simba_actors.cli.app import make_app

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # Terminals that are not UTF-8 get escapes, not a crash.
    try:
        make_app(sys.argv[1:])()
    except BrokenPipeError:
        # The reader, such as `head`, has gone. Python would complain once more when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
