"""Links and monitors: hearing of another process's end. For code that a process runs, its callbacks or its function."""

from __future__ import annotations

from simba_actors.actors.errors import NotInAProcessError
from simba_actors.actors.process import Process, current_process
from simba_actors.actors.ref import Ref


def link(ref: Ref) -> None:
    """Ties the current process to another: when one ends abnormally, so does the other.

    One with `trap_exit` gets an `ExitSignal` in `handle_info` instead, whatever the reason. A link to a dead process
    has the same effect at once.

    Raises:
        NotInAProcessError: No process runs this code. So do the others here.
    """
    _current("link").link(ref.target)


def unlink(ref: Ref) -> None:
    """Unties them."""
    _current("unlink").unlink(ref.target)


def monitor(ref: Ref) -> None:
    """Has the current process get a `Down` in `handle_info` when the other ends, at once if it has."""
    _current("monitor").monitor(ref.target)


def demonitor(ref: Ref) -> None:
    """Ends the monitor. A `Down` that is on its way still comes."""
    _current("demonitor").demonitor(ref.target)


def _current(what: str) -> Process:
    process = current_process()
    if process is None:
        raise NotInAProcessError(f"{what}() was called by code that no process runs, such as the host's own task")
    return process
