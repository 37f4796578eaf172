"""The tables, one file for each version of the schema.

`NNN_name.sql` takes a store from version NNN - 1 to version NNN. A file that was released is never changed: a change to
the tables is a new file at the end of `_SCRIPTS`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from importlib.resources import files

APPLICATION_ID = 0x53494D42
"""Marks a file as a store of this package ("SIMB"): https://sqlite.org/pragma.html#pragma_application_id."""

_SCRIPTS = (
    "001_ledger.sql",
    "002_tallies.sql",
    "003_channels.sql",
    "004_progress.sql",
    "005_fencing.sql",
    "006_spending.sql",
    "007_running.sql",
    "008_differences.sql",
)

VERSION = len(_SCRIPTS)
"""The version of the schema that this package reads and writes."""


def migrate(db: sqlite3.Connection, version: int, target: int = VERSION) -> None:
    """Bring the tables of `db` from `version` (0: there are none) to `target`, within the transaction that is open."""
    for script in _SCRIPTS[version:target]:
        for statement in _statements(files(__name__).joinpath(script).read_text(encoding="utf-8")):
            db.execute(statement)
    db.execute(f"PRAGMA user_version = {target}")
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def _statements(script: str) -> Iterator[str]:
    """Split a script. `executescript` would commit the transaction that is open."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
