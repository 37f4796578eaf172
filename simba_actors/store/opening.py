"""Opening the file: made if need be, recognized, migrated."""

from __future__ import annotations

import itertools
import os
import sqlite3
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import aiosqlite
import anyio

from simba_actors.errors import ConfigError, NotAStoreError, StoreError, StoreVersionError
from simba_actors.store.connection import Connection, connect
from simba_actors.store.failures import told_of
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
            async with _transaction(db, "DEFERRED"):
                version = await _recognize(db, path)
            await _log_ahead(db, busy_seconds)
            await db.execute("PRAGMA synchronous = NORMAL")
            await db.execute("PRAGMA foreign_keys = ON")
            if version < VERSION:
                await _migrate(db, path)
        except BaseException:
            await db.close()
            raise
    return db


async def open_for_reading(path: Path, busy_seconds: float = BUSY_SECONDS) -> aiosqlite.Connection:
    """A connection that can't change the store, nor hold up who writes it."""
    uri = _existing(path)
    with told_of(path):
        db = await aiosqlite.connect(f"{uri}?mode=ro", uri=True, timeout=busy_seconds)
        try:
            async with _transaction(db, "DEFERRED"):
                await _recognize(db, path)
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


@asynccontextmanager
async def _transaction(db: aiosqlite.Connection, kind: str) -> AsyncGenerator[None]:
    await db.execute(f"BEGIN {kind}")
    try:
        yield
        await db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            await db.execute("ROLLBACK")
        raise


async def _recognize(db: aiosqlite.Connection, path: Path) -> int:
    """The version of the store, 0 for an empty file. Within a transaction: another process may be making it."""
    application, version = await _pragma(db, "application_id"), await _pragma(db, "user_version")
    empty = application == 0 and version == 0 and not await _tables(db)
    if not empty and application != APPLICATION_ID:
        raise NotAStoreError(f"{path} is another program's database: give another path; it was left as it is")
    if version > VERSION:
        raise StoreVersionError(
            f"{path} was written by a newer simba_actors (schema {version}, this one knows {VERSION}): upgrade"
        )
    return version


async def _log_ahead(db: aiosqlite.Connection, busy_seconds: float) -> None:
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


async def _migrate(db: aiosqlite.Connection, path: Path) -> None:
    """Brings the file to this version. Where another process was first, there is nothing left to do."""
    async with _transaction(db, "IMMEDIATE"):
        version = await _recognize(db, path)
        for script in MIGRATIONS[version:]:
            for statement in _statements(script):
                await db.execute(statement)
        await db.execute(f"PRAGMA user_version = {VERSION}")
        await db.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def _statements(script: str) -> Iterator[str]:
    """Those of a script, which `executescript` would take out of the transaction that is open."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


async def _pragma(db: aiosqlite.Connection, name: str) -> int:
    rows = await db.execute_fetchall(f"PRAGMA {name}")
    return int(next(iter(rows))[0])


async def _tables(db: aiosqlite.Connection) -> list[sqlite3.Row]:
    return list(await db.execute_fetchall("SELECT name FROM sqlite_schema"))
