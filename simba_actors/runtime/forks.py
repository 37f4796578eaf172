"""Forks: renewal of the locks, threads and connections that a child made by `os.fork` can't use."""

from __future__ import annotations

import os
import threading
from typing import Protocol
from weakref import WeakSet


class ForkAware(Protocol):
    """An object that holds locks, threads or connections, and stays usable in a child process.

    `gunicorn --preload`, `multiprocessing` and others load an application once and fork it. The child has a copy of
    each lock, which may be held by a thread that the child does not have, and of each database connection, which SQLite
    forbids it to use (https://sqlite.org/howtocorrupt.html#_carrying_an_open_database_connection_across_a_fork_).
    """

    def before_fork(self) -> None:
        """Close in the parent what the child must not inherit. Must not wait for longer than about a second."""
        ...

    def after_fork_in_parent(self) -> None:
        """Undo in the parent what `before_fork` did."""
        ...

    def after_fork_in_child(self) -> None:
        """Replace locks, and forget threads and connections. The child has no other thread yet."""
        ...


class _Registry:
    """The objects of this process that prepare for forks, held weakly."""

    def __init__(self) -> None:
        self._objects: WeakSet[ForkAware] = WeakSet()
        self._lock = threading.Lock()
        self._hooked = False

    def add(self, fork_aware: ForkAware) -> None:
        with self._lock:
            self._objects.add(fork_aware)
            hook, self._hooked = not self._hooked, True
        if hook and hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=self._before, after_in_parent=self._after_in_parent, after_in_child=self._after_in_child
            )

    def _alive(self) -> list[ForkAware]:
        with self._lock:
            return list(self._objects)

    def _before(self) -> None:
        for fork_aware in self._alive():
            fork_aware.before_fork()

    def _after_in_parent(self) -> None:
        for fork_aware in self._alive():
            fork_aware.after_fork_in_parent()

    def _after_in_child(self) -> None:
        self._lock = threading.Lock()
        for fork_aware in self._alive():
            fork_aware.after_fork_in_child()


_registry = _Registry()


def survive_forks(fork_aware: ForkAware) -> None:
    """Call the methods of `fork_aware` at every fork of this process, for as long as it lives. It is held weakly."""
    _registry.add(fork_aware)
