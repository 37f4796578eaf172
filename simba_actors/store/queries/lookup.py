"""Finding what people name: a run by its name or the start of it, and a program by its number, `best` or `student`."""

from __future__ import annotations

import sqlite3

from simba_actors.errors import RunError, UnknownProgramError, UnknownRunError
from simba_actors.search.rollout import STUDENT
from simba_actors.store.queries.score_queries import best_standing

LATEST = "latest"
"""Names the newest run."""

RUNS_NAMED = 5
"""Maximum number of runs that an error message lists."""


def find_run_id(db: sqlite3.Connection, name: str | None) -> str:
    """Return the run that `name` means: its full name, the start of it, or `latest`. None means the only run.

    Raises:
        UnknownRunError: No run has that name.
        RunError: The name is ambiguous, or it is None and there is not exactly one run.
    """
    runs = [run_id for (run_id,) in db.execute("SELECT run_id FROM runs ORDER BY created DESC, run_id DESC")]
    if name is not None and name in runs:
        return name
    if not runs:
        raise UnknownRunError("the store has no runs yet: start one with Optimizer.start(config)")
    if name == LATEST:
        return runs[0]
    if name is None:
        if len(runs) == 1:
            return runs[0]
        raise RunError(f"the store has {len(runs)} runs ({_listed(runs)}): name one, or use {LATEST}")
    matching = [run_id for run_id in runs if run_id.startswith(name)]
    if len(matching) == 1:
        return matching[0]
    if matching:
        raise RunError(f"{name!r} is the start of {len(matching)} runs ({_listed(matching)}): give more of it")
    raise UnknownRunError(f"the store has no run {name!r}; it has {_listed(runs)}")


def find_program(db: sqlite3.Connection, run_id: str, name: str | None) -> int:
    """Return the program that `name` means: its number, `student`, or `best`, which is also the default.

    Raises:
        UnknownProgramError: The run has no such program.
    """
    if name in (None, "best"):
        best = best_standing(db, run_id)
        return STUDENT if best is None else best.program
    if name == "student":
        return STUDENT
    (newest,) = db.execute("SELECT MAX(number) FROM programs WHERE run_id = ?", [run_id]).fetchone()
    if not (name.isdecimal() and len(name) < 19 and int(name) <= (newest or 0)):
        raise UnknownProgramError(
            f"run {run_id!r} has no program {name}; give a number up to {newest or 0}, `best` or `student`"
        )
    return int(name)


def _listed(runs: list[str]) -> str:
    more = f" and {len(runs) - RUNS_NAMED} more" if len(runs) > RUNS_NAMED else ""
    return ", ".join(runs[:RUNS_NAMED]) + more
