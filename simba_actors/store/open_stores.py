"""The stores that runs of this process have open, which a child made by `os.fork` must not write.

SQLite keeps in memory which locks a process has. A forked child has a copy of that, but not the locks, so that both
processes would write at the same time and delete each other's write-ahead log:
https://sqlite.org/howtocorrupt.html#_carrying_an_open_database_connection_across_a_fork_.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from simba_actors.errors import StoreError
from simba_actors.runtime.forks import survive_forks

FileId = tuple[int, int]
"""Device and inode of a file."""


class _OpenStores:
    """Files of this process's runs, and those that the process that it was forked from had open."""

    def __init__(self) -> None:
        self.open: Counter[FileId] = Counter()
        self.inherited: set[FileId] = set()

    def before_fork(self) -> None:
        """Do nothing: the parent keeps its runs."""

    def after_fork_in_parent(self) -> None:
        """Do nothing: nothing was closed."""

    def after_fork_in_child(self) -> None:
        """Note which files are not to be used here."""
        self.inherited |= set(+self.open)
        self.open = Counter()


_stores = _OpenStores()


def check_not_inherited(path: Path) -> None:
    """Raise StoreError if the process that this one was forked from had a run open in the store at `path`."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return
    if (found.st_dev, found.st_ino) in _stores.inherited:
        raise StoreError(
            f"{path} can't be used by a run here, since this process was forked from one that had a run open in it: "
            'make processes with multiprocessing\'s method "spawn", or before the first run starts'
        )


def note_open(file: FileId) -> None:
    """Note that a run of this process has the file open."""
    survive_forks(_stores)
    _stores.open[file] += 1


def note_closed(file: FileId) -> None:
    """Note that a run has closed the file."""
    _stores.open[file] -= 1
