"""The command that checks a store."""

from __future__ import annotations

from dataclasses import asdict

import typer

from simba_actors.cli.options import DEFAULT_STORE, AsJSON, StorePath
from simba_actors.cli.output import print_json, print_text, run
from simba_actors.store.doctor import check


def doctor(store: StorePath = DEFAULT_STORE, as_json: AsJSON = False) -> None:
    """Check a store: the file itself, and whether what it holds fits together. Exit code 1 if it does not."""
    findings = run(check(store), as_json=as_json)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            detail = f": {finding.detail}" if finding.detail else ""
            print_text(f"{'ok ' if finding.ok else 'BAD'}  {finding.what}{detail}")
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)
