"""What SQLite says, in words that name the file and the remedy."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from simba_actors.errors import (
    NotAStoreError,
    StoreDamagedError,
    StoreError,
    StoreFullError,
    StoreLockedError,
    StoreReadOnlyError,
)


@contextmanager
def told_of(path: Path) -> Generator[None]:
    """Turns SQLite's errors within it into `StoreError`s about `path`."""
    try:
        yield
    except sqlite3.Error as error:
        raise translated(error, path) from error


def translated(error: sqlite3.Error, path: Path) -> StoreError:
    text = str(error)
    if "locked" in text or "busy" in text:
        return StoreLockedError(f"{path} is locked by another writer: {text}; end it, or try again when it is done")
    if "full" in text:
        return StoreFullError(f"{path} can't grow: {text}; make room, then resume the run")
    if "readonly" in text or "read-only" in text:
        return StoreReadOnlyError(f"{path} can't be written: {text}; check its permissions and those of its directory")
    if "not a database" in text:
        return NotAStoreError(f"{path} is no SQLite database: give another path; the file was left as it is")
    if "malformed" in text or "disk I/O" in text or "short read" in text:
        return StoreDamagedError(f"{path} is damaged: {text}; restore it from a copy, or start with another path")
    if "unable to open" in text:
        return StoreError(f"{path} can't be opened: {text}; check that its directory exists and may be written")
    return StoreError(f"{path}: {text}")
