"""Opening a store: create it if needed, check that it is one, and migrate it."""

from __future__ import annotations

import itertools
import os
import re
import sqlite3
import stat
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import cast

import anyio

from simba_actors.errors import ConfigError, NotAStoreError, StoreError, StoreReadOnlyError, StoreVersionError
from simba_actors.store.connection import OUT_OF_FILES, Connection, connect, real_path, translate_errors, unreachable
from simba_actors.store.migrations import APPLICATION_ID, VERSION, migrate

BUSY_SECONDS = 5.0
"""Seconds that a write waits for another writer before it fails."""

RETRY_SECONDS = 0.01
"""Seconds between attempts to open a locked file, in cases where SQLite does not retry."""

ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
"""The start of a URL. A single letter before the colon would be a drive of Windows."""


async def open_for_writing(path: Path, busy_seconds: float = BUSY_SECONDS, *, make: bool = True) -> Connection:
    """Connect to the store at `path`. If it is missing and `make` is True, create it, readable by its owner only.

    Write-ahead logging with synchronous=NORMAL: a committed transaction survives the death of the process in any way. A
    power cut can take back the last transactions, but never leaves a part of one.
    """
    with translate_errors(path):
        if make:
            _make_file(path)
        else:
            _check_exists(path)
        _check_one_name(path)
        db = await connect(path, busy_seconds)
        try:
            version = await db.read(recognize, path)
            await _turn_logging_on(db, busy_seconds)
            await db.execute("PRAGMA synchronous = NORMAL")
            await db.execute("PRAGMA foreign_keys = ON")
            if version < VERSION:
                await db.transact(partial(_migrate, path))
        except BaseException:
            await db.close()
            raise
    return db


async def open_for_reading(path: Path) -> Connection:
    """Connect to the store at `path` without ever changing it or delaying its writer.

    A store of an older version is not migrated. It is copied into memory, and the copy is migrated.
    """
    with translate_errors(path):
        db = await connect(uri_for_reading(path), BUSY_SECONDS)
        try:
            version = await db.read(recognize, path)
            if version < VERSION:
                _check_not_empty(path, version)
                old, db = db, await connect(":memory:", BUSY_SECONDS)
                try:
                    await old.backup(db)
                finally:
                    await old.close()
                await db.transact(lambda copy: migrate(copy, version))
        except BaseException:
            await db.close()
            raise
    return db


def connect_for_reading(path: Path, busy_seconds: float) -> sqlite3.Connection:
    """Connect as `open_for_reading` does, from a thread, without migrating a copy.

    The caller translates SQLite's errors.
    """
    return _recognized(path, uri_for_reading(path), busy_seconds)


def connect_for_writing(path: Path) -> sqlite3.Connection:
    """Connect to a store of this version that exists, from a thread. The caller translates SQLite's errors."""
    _check_exists(path)
    return _recognized(path, f"{real_path(path).as_uri()}?mode=rw", BUSY_SECONDS, check=_check_current)


def _recognized(
    path: Path, uri: str, timeout: float, check: Callable[[Path, int], None] | None = None
) -> sqlite3.Connection:
    """Connect to a store whose version `check` accepts."""
    db = sqlite3.connect(uri, uri=True, timeout=timeout, check_same_thread=False, isolation_level=None)
    try:
        version = recognize(db, path)
        if check is not None:
            check(path, version)
    except BaseException:
        db.close()
        raise
    return db


def _check_current(path: Path, version: int) -> None:
    if version < VERSION:
        raise StoreVersionError(f"{path} has schema {version}, not {VERSION}: the next run or publication migrates it")


def uri_for_reading(path: Path) -> str:
    """Return the URI with which SQLite reads the store at `path`.

    If nothing can be written beside the file, SQLite has no place for its locks. A store at rest is then opened as
    immutable, which needs none.
    """
    _check_exists(path)
    return f"{real_path(path).as_uri()}?{'immutable=1' if is_immutable(path) else 'mode=ro'}"


def is_immutable(path: Path) -> bool:
    """Return whether SQLite can read the store only as immutable: it is at rest, and nothing can be written beside it.

    Raises:
        StoreReadOnlyError: Its last commits are in a write-ahead log that can't be read there.
    """
    real = real_path(path)
    log, index = real.with_name(f"{real.name}-wal"), real.with_name(f"{real.name}-shm")
    if _is_writable(real.parent) or (log.exists() and index.exists()):
        return False
    if log.exists() and log.stat().st_size > 0:
        raise StoreReadOnlyError(
            f"{real} can't be read: its last commits are still in {log.name}, and its directory may not be written. "
            "Stop the process that writes it before the directory is copied or mounted"
        )
    return True


def _is_writable(directory: Path) -> bool:
    return os.access(directory, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def checked_path(store: object) -> Path:
    """Return `store` as an absolute path, since the process may change its working directory.

    Raises:
        ConfigError: It is not the path of a file.
    """
    if not isinstance(store, str | os.PathLike):
        raise ConfigError(f"store={store!r:.80}: must be the path of a file, as in store='simba.db'")
    path = Path(cast("str | os.PathLike[str]", store))
    if isinstance(store, str) and ADDRESS.match(store):
        raise ConfigError(
            f"store={store!r:.80}: must be the path of a file. Only live programs can follow a server by its address, "
            "as in 'https://host/simba'"
        )
    if str(path) == ":memory:":
        raise ConfigError("store=':memory:': must be the path of a file, since a run outlives its process")
    if path.parts[:1] == ("~",):
        raise ConfigError(
            f"store={str(path)!r:.80}: only shells replace ~ by the home directory: pass Path(…).expanduser(), or the "
            "absolute path of a directory that has this name"
        )
    if "\0" in str(path):
        raise ConfigError(f"store={str(path)!r:.80}: a path can't contain NUL characters")
    return path.absolute()


def recognize(db: sqlite3.Connection, path: Path) -> int:
    """Return the version of the store, 0 for an empty file. Call it in a transaction: others may be creating the store.

    Raises:
        NotAStoreError: It is another program's database.
        StoreVersionError: A newer version of this package wrote it.
    """
    application, version = _pragma(db, "application_id"), _pragma(db, "user_version")
    empty = application == 0 and version == 0 and db.execute("SELECT name FROM sqlite_schema").fetchone() is None
    if not empty and application != APPLICATION_ID:
        raise NotAStoreError(f"{path} is another program's database: give another path; the file was not changed")
    if version > VERSION:
        raise StoreVersionError(
            f"{path} was written by a newer simba_actors (schema {version}, this one knows {VERSION}): upgrade"
        )
    return version


def _check_not_empty(path: Path, version: int) -> None:
    if version == 0:
        raise StoreError(f"{path} is empty: start a run or publish something to make it a store")


def _check_exists(path: Path) -> None:
    with translate_errors(path):
        try:
            mode = path.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            raise StoreError(f"{path} does not exist: check the path") from None
    _check_is_file(path, mode)


def _check_is_file(path: Path, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise StoreError(f"{path} is a directory: give the path of a file in it")
    if not stat.S_ISREG(mode):  # SQLite would wait for a pipe's other end.
        raise StoreError(f"{path} is a pipe, a socket or a device: give the path of a file")


def _check_one_name(path: Path) -> None:
    """Raise StoreError if the file has hard links.

    Each name has a write-ahead log of its own, so writers that use different names destroy each other's pages:
    https://sqlite.org/howtocorrupt.html#_multiple_links_to_the_same_file.
    """
    names = path.stat().st_nlink
    if names > 1:
        raise StoreError(
            f"{path} has {names} names (hard links), and would be damaged by writers that use different ones: remove "
            "the other names, and use copies or symbolic links instead"
        )


def _make_file(path: Path) -> None:
    with suppress(FileNotFoundError, NotADirectoryError):
        _check_is_file(path, path.stat().st_mode)
    real = real_path(path)
    if not real.parent.is_dir():
        raise StoreError(f"{path} can't be created: there is no directory {real.parent}; create it first")
    try:
        os.close(os.open(real, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        if error.errno in OUT_OF_FILES:
            raise unreachable(error, path) from error
        raise StoreError(
            f"{path} can't be created ({error.strerror}): check the permissions of its directory"
        ) from error


async def _turn_logging_on(db: Connection, busy_seconds: float) -> None:
    """Turn write-ahead logging on. SQLite refuses that at once, without waiting, while others read or do the same."""
    for attempt in itertools.count(1):
        try:
            await db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if attempt * RETRY_SECONDS > busy_seconds:
                raise
            await anyio.sleep(RETRY_SECONDS)
        else:
            return


def _migrate(path: Path, db: sqlite3.Connection) -> None:
    """Bring the file to this version, unless another process was first."""
    migrate(db, recognize(db, path))


def _pragma(db: sqlite3.Connection, name: str) -> int:
    return int(db.execute(f"PRAGMA {name}").fetchone()[0])
