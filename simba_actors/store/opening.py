"""Opening the file: made if need be, recognized, migrated."""

from __future__ import annotations

import itertools
import os
import sqlite3
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import cast

import anyio

from simba_actors.errors import ConfigError, NotAStoreError, StoreError, StoreVersionError
from simba_actors.store.connection import Connection, connect
from simba_actors.store.error_translation import told_of
from simba_actors.store.schema import APPLICATION_ID, MIGRATIONS, VERSION

BUSY_SECONDS = 5.0
"""How long a write waits for another writer before it fails."""

LOOK_SECONDS = 0.01
"""How often a file that others hold is tried again where SQLite does not do it."""


async def open_for_writing(path: Path, busy_seconds: float = BUSY_SECONDS, *, make: bool = True) -> Connection:
    """A connection to the store at `path`, which `make` makes, readable by its owner only, if there is none.

    Write-ahead logging with synchronous=NORMAL: what is committed survives the death of the process in any way. A power
    cut can take back the last commits, but never leaves a part of one.
    """
    if make:
        _make_file(path)
    else:
        _existing(path)
    with told_of(path):
        db = await connect(path, busy_seconds)
        try:
            version = await db.transact(partial(_recognize, path), "DEFERRED")
            await _log_ahead(db, busy_seconds)
            await db.execute("PRAGMA synchronous = NORMAL")
            await db.execute("PRAGMA foreign_keys = ON")
            if version < VERSION:
                await db.transact(partial(_migrate, path))
        except BaseException:
            await db.close()
            raise
    return db


async def open_for_reading(path: Path, busy_seconds: float = BUSY_SECONDS) -> Connection:
    """A connection that can't change the store, nor hold up who writes it."""
    uri = _existing(path)
    with told_of(path):
        db = await connect(f"{uri}?mode=ro", busy_seconds)
        try:
            await db.transact(partial(_recognize, path), "DEFERRED")
        except BaseException:
            await db.close()
            raise
    return db


def checked_path(store: object) -> Path:
    """`store` as an absolute path: the process may change its directory. Raises ConfigError if it is no path."""
    if not isinstance(store, str | os.PathLike):
        raise ConfigError(f"store={store!r:.80}: must be the path of a file, as in store='simba.db'")
    path = Path(cast("str | os.PathLike[str]", store))
    if str(path) == ":memory:":
        raise ConfigError("store=':memory:': a run is kept in a file, to go on after its process; give a path")
    return path.absolute()


def _existing(path: Path) -> str:
    if not path.is_file():
        raise StoreError(f"{path} does not exist: check the path")
    return path.resolve().as_uri()


def _make_file(path: Path) -> None:
    if path.is_dir():
        raise StoreError(f"{path} is a directory: give the path of a file in it")
    if not path.parent.is_dir():
        raise StoreError(f"{path} can't be made: there is no directory {path.parent}; make it first")
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        raise StoreError(f"{path} can't be made: {error.strerror}") from error


def _recognize(path: Path, db: sqlite3.Connection) -> int:
    """The version of the store, 0 for an empty file. Within a transaction: another process may be making it."""
    application, version = _pragma(db, "application_id"), _pragma(db, "user_version")
    empty = application == 0 and version == 0 and db.execute("SELECT name FROM sqlite_schema").fetchone() is None
    if not empty and application != APPLICATION_ID:
        raise NotAStoreError(f"{path} is another program's database: give another path; it was left as it is")
    if version > VERSION:
        raise StoreVersionError(
            f"{path} was written by a newer simba_actors (schema {version}, this one knows {VERSION}): upgrade"
        )
    return version


async def _log_ahead(db: Connection, busy_seconds: float) -> None:
    """Turns write-ahead logging on, which SQLite refuses at once, without a wait, while others read or do the same."""
    for attempt in itertools.count(1):
        try:
            await db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if attempt * LOOK_SECONDS > busy_seconds:
                raise
            await anyio.sleep(LOOK_SECONDS)
        else:
            return


def _migrate(path: Path, db: sqlite3.Connection) -> None:
    """Brings the file to this version. Where another process was first, there is nothing left to do."""
    version = _recognize(path, db)
    for script in MIGRATIONS[version:]:
        for statement in _statements(script):
            db.execute(statement)
    db.execute(f"PRAGMA user_version = {VERSION}")
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def _statements(script: str) -> Iterator[str]:
    """Those of a script, which `executescript` would take out of the transaction that is open."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _pragma(db: sqlite3.Connection, name: str) -> int:
    return int(db.execute(f"PRAGMA {name}").fetchone()[0])
