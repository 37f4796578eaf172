"""Word of publications within one process: its live programs need not wait until they look at the file again."""

from __future__ import annotations

from pathlib import Path

_publications: dict[Path, int] = {}
"""How many this process has made, by file. Each is changed by one step, so threads need no lock."""


def tell_followers(store: Path) -> None:
    """Something was published to the store."""
    path = store.resolve()
    _publications[path] = _publications.get(path, 0) + 1


def publications_in(store: Path) -> int:
    """How many publications this process has made to the store at that resolved path."""
    return _publications.get(store, 0)
