"""Reading a store. Nothing here ever locks or changes it.

A query is a plain function of an `sqlite3.Connection`; `Reader.ask` calls it in the connection's thread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec, Self, TypeVar

import anyio

from simba_actors.search.buckets import Bucket
from simba_actors.search.rollout import Phase, Split, Usage
from simba_actors.store.connection import Connection, data_version, translate_errors
from simba_actors.store.opening import checked_path, open_for_reading
from simba_actors.store.queries import ledger_queries, usage_queries
from simba_actors.store.queries.usage_queries import WITHOUT_RESULT
from simba_actors.store.records import Position, Program, ProposalRecord, RolloutRecord, Run, Spending, Step

if TYPE_CHECKING:
    from simba_actors.events import Event, RunPaused
    from simba_actors.search.evidence import Score
    from simba_actors.search.progress import Progress, StepProgress

P = ParamSpec("P")
R = TypeVar("R")

EVENTS_AT_ONCE = 1_000
"""Maximum number of events that one query returns."""


class Reader:
    """Answers questions about the runs of one store.

        async with await Reader.open("simba.db") as reader:
            for run in await reader.runs():
                print(run.run_id, run.status)
            print(await reader.ask(summary, "my-run"))

    The methods answer what a run needs of its own ledger. `ask` takes any other query, such as those of
    `run_queries`, `pool_queries` and `publishing.publications`. Both raise StoreError where the file can't be read.
    """

    def __init__(self, path: Path, db: Connection) -> None:
        self.path = path
        self._db = db

    @classmethod
    async def open(cls, path: str | Path) -> Self:
        """Open the store at `path`, which others may be writing. Raise StoreError if it can't be read."""
        checked = checked_path(path)
        return cls(checked, await open_for_reading(checked))

    async def close(self) -> None:
        with anyio.CancelScope(shield=True):  # A cancelled reader leaves no connection behind either.
            await self._db.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def ask(self, query: Callable[Concatenate[sqlite3.Connection, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Return `query(db, *args, **kwargs)`, called in the connection's thread on one state of the file."""
        with translate_errors(self.path):
            return await self._db.read(query, *args, **kwargs)

    async def data_version(self) -> int:
        """Return a number that changes when another connection has changed the store."""
        return await self.ask(data_version)

    async def run(self, run_id: str) -> Run:
        """Return the run of that name. Raise UnknownRunError, which names the runs that exist, if there is none."""
        return await self.ask(ledger_queries.find_run, run_id)

    async def runs(self) -> list[Run]:
        """Return all runs, the oldest first."""
        return await self.ask(ledger_queries.all_runs)

    async def programs(self, run_id: str, numbers: Collection[int] | None = None) -> list[Program]:
        """Return the run's pool, by number: all programs, or those with these `numbers`."""
        return await self.ask(ledger_queries.find_programs, run_id, numbers)

    async def steps(self, run_id: str) -> list[Step]:
        """Return the run's steps in order, open ones last, as they are stored: most without the policy's state."""
        return await self.ask(ledger_queries.steps, run_id)

    async def position(self, run_id: str) -> Position:
        """Return what is needed to continue the search of a run."""
        return await self.ask(ledger_queries.position, run_id)

    async def progress(self, run_id: str) -> Progress | None:
        """Return what the run had found and used at the end of each closed step; None before the first.

        Steps that an older version closed without progress are left out.
        """
        return await self.ask(ledger_queries.progress, run_id)

    async def last_progress(self, run_id: str) -> StepProgress | None:
        """Return what the run had found and used when it closed its last step; None before the first."""
        return await self.ask(ledger_queries.last_progress, run_id)

    async def proposals(self, run_id: str, step: int) -> list[ProposalRecord]:
        """Return the step's proposals that have an outcome, by index."""
        return await self.ask(ledger_queries.proposals, run_id, step)

    async def rollouts(self, run_id: str, step: int, phase: Phase, program: int | None = None) -> list[RolloutRecord]:
        """Return the rollouts of a step and phase, of all programs or of one, in the order of the plan."""
        return await self.ask(ledger_queries.rollouts, run_id, step, phase, program)

    async def buckets(self, run_id: str, step: int, examples: Sequence[int]) -> dict[int, Bucket]:
        """Return the buckets of some examples of a step, by example. An example without a result has none."""
        return await self.ask(ledger_queries.buckets, run_id, step, examples)

    async def scores(self, run_id: str) -> list[Score]:
        """Return every scored rollout, without its trajectory, in the order of the plans."""
        return await self.ask(ledger_queries.scores, run_id)

    async def objective_scores(self, run_id: str, objective: str) -> list[Score]:
        """Return the scores of one objective, as `scores` does. Program failures score 0 for each objective."""
        return await self.ask(ledger_queries.scores, run_id, objective)

    async def usage(self, run_id: str) -> Usage:
        """Return the usage of all calls of the run; None where it is unknown for any rollout or strategy."""
        return sum((await self.usage_by_lm(run_id)).values(), start=Usage())

    async def usage_of_results(self, run_id: str) -> Usage:
        """Return the usage of all stored rollouts and strategies; None where it is unknown for any of them."""
        used = await self.usage_by_lm(run_id)
        return sum((usage for name, usage in used.items() if name != WITHOUT_RESULT), start=Usage())

    async def usage_by_lm(self, run_id: str, step: int | None = None) -> dict[str, Usage]:
        """Return the usage by LM of the model pool, and by `PROMPT_MODEL` for the LM that writes rules.

        The usage of calls without a result is that of `WITHOUT_RESULT`, if there are any. With a `step`, return the
        usage of that step's results. If predictors have LMs of their own, their usage counts as the student's, and so
        do LM calls that the metric makes.
        """
        return await self.ask(usage_queries.usage_by_lm, run_id, step)

    async def spending(self, run_id: str) -> Spending:
        """Return what the run has spent so far, including before restarts."""
        return await self.ask(usage_queries.spending, run_id)

    async def rollouts_done(self, run_id: str) -> int:
        """Return the number of the run's rollouts that have a result."""
        return await self.ask(ledger_queries.rollouts_done, run_id)

    async def events(self, run_id: str, after: int = 0, limit: int = EVENTS_AT_ONCE) -> list[Event]:
        """Return up to `limit` of the run's events with a seq above `after`, without kinds unknown to this version."""
        return await self.ask(ledger_queries.events, run_id, after, limit)

    async def set_aside(self, run_id: str) -> list[tuple[Split, int]]:
        """Return the split and the index of each example that the run has set aside."""
        return await self.ask(ledger_queries.set_aside, run_id)

    async def last_pause(self, run_id: str) -> RunPaused | None:
        """Return the event of the run's last pause, which may be over; None if it was never paused."""
        return await self.ask(ledger_queries.last_pause, run_id)

    async def is_stopped(self, run: Run) -> bool:
        """Return whether a request has stopped the run, and neither a request nor a new start has continued it."""
        return await self.ask(ledger_queries.was_stopped, run)

    async def last_event(self, run_id: str) -> int:
        """Return the seq of the run's newest event; 0 if it has none."""
        return await self.ask(ledger_queries.last_event, run_id)
