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
        try:
            make_app(sys.argv[1:])()
        finally:
            if isinstance(sys.stdout, io.TextIOWrapper):  # It is None if the process has no stdout.
                sys.stdout.flush()
    except BrokenPipeError:  # The reader, such as `head`, has gone.
        _discard_output()
        sys.exit(1)
    except OSError as error:
        _discard_output()
        sys.exit(f"simba-actors: the output can't be written: {error}")


def _discard_output() -> None:
    """Keep Python from complaining once more when it flushes stdout at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
