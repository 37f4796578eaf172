"""Word of publications within one process: its live programs need not wait until they look at the file again."""

from __future__ import annotations

from pathlib import Path

_publications: dict[str, int] = {}
"""How many this process has made, by file. Each is changed by one step, so threads need no lock."""


def name_of(store: Path) -> str:
    """The store's file, by whatever path it is reached."""
    return str(store.resolve())


def tell_followers(store: Path) -> None:
    """Something was published to the store."""
    name = name_of(store)
    _publications[name] = _publications.get(name, 0) + 1


def publications_in(store: str) -> int:
    """How many publications this process has made to the store of that `name_of`."""
    return _publications.get(store, 0)
