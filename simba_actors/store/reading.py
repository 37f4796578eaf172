"""Reading a store. Nothing here ever locks or changes it.

A query is a plain function of an `sqlite3.Connection`; `Reader.ask` calls it in the connection's thread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

import anyio

from simba_actors.errors import UnknownRunError
from simba_actors.search.buckets import Bucket, Sample, make_bucket
from simba_actors.search.rollout import JSON, ModelSpec, Outcome, Phase, RolloutKey, Split, Usage
from simba_actors.store.connection import Connection, translate_errors
from simba_actors.store.differences import States
from simba_actors.store.encoding import (
    EVENT_COLUMNS,
    INTENT_COLUMNS,
    PROGRAM_COLUMNS,
    PROPOSAL_COLUMNS,
    RESULT_COLUMNS,
    dumps,
    event_of,
    load_shared,
    loads,
    rollout_records,
)
from simba_actors.store.opening import checked_path, open_for_reading
from simba_actors.store.records import Position, Program, ProposalRecord, RolloutRecord, Run, Spending, Step

if TYPE_CHECKING:
    from simba_actors.events import Event, RunPaused
    from simba_actors.search.evidence import Score
    from simba_actors.search.progress import Progress, StepProgress

P = ParamSpec("P")
R = TypeVar("R")

EVENTS_AT_ONCE = 1_000
"""Maximum number of events that one query returns."""

PROMPTS = "prompts"
"""Key under which the column of the settings keeps the prompt templates."""

PROMPT_MODEL = "prompt_model"
"""Name of the LM that writes rules, used alongside the names of the model pool."""

WITHOUT_RESULT = "without_result"
"""Name for the usage of calls without a stored result: of rollouts that failed, were cut short, or still run."""

LAST_EVENT = "SELECT COALESCE(MAX(seq), 0) FROM events WHERE run_id = ?"


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
        return await self.ask(_data_version)

    async def run(self, run_id: str) -> Run:
        """Return the run of that name. Raise UnknownRunError, which names the runs that exist, if there is none."""
        return await self.ask(find_run, run_id)

    async def runs(self) -> list[Run]:
        """Return all runs, the oldest first."""
        return await self.ask(all_runs)

    async def programs(self, run_id: str, numbers: Collection[int] | None = None) -> list[Program]:
        """Return the run's pool, by number: all programs, or those with these `numbers`."""
        return await self.ask(find_programs, run_id, numbers)

    async def steps(self, run_id: str) -> list[Step]:
        """Return the run's steps in order, open ones last, as they are stored: most without the policy's state."""
        return await self.ask(_steps, run_id)

    async def position(self, run_id: str) -> Position:
        """Return what is needed to continue the search of a run."""
        return await self.ask(_position_of, run_id)

    async def progress(self, run_id: str) -> Progress | None:
        """Return what the run had found and used at the end of each closed step; None before the first.

        Steps that an older version closed without progress are left out.
        """
        return await self.ask(_progress, run_id)

    async def last_progress(self, run_id: str) -> StepProgress | None:
        """Return what the run had found and used when it closed its last step; None before the first."""
        return await self.ask(_last_progress, run_id)

    async def proposals(self, run_id: str, step: int) -> list[ProposalRecord]:
        """Return the step's proposals that have an outcome, by index."""
        return await self.ask(_proposals, run_id, step)

    async def rollouts(self, run_id: str, step: int, phase: Phase, program: int | None = None) -> list[RolloutRecord]:
        """Return the rollouts of a step and phase, of all programs or of one, in the order of the plan."""
        return await self.ask(_rollouts, run_id, step, phase, program)

    async def buckets(self, run_id: str, step: int, examples: Sequence[int]) -> dict[int, Bucket]:
        """Return the buckets of some examples of a step, by example. An example without a result has none."""
        return await self.ask(_buckets, run_id, step, examples)

    async def scores(self, run_id: str) -> list[Score]:
        """Return every scored rollout, without its trajectory, in the order of the plans."""
        return await self.ask(_scores, run_id, "score", None)

    async def objective_scores(self, run_id: str, objective: str) -> list[Score]:
        """Return the scores of one objective, as `scores` does. Program failures score 0 for each objective."""
        return await self.ask(_scores, run_id, _OBJECTIVE_SCORE, objective)

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
        return await self.ask(_usage_by_lm, run_id, step)

    async def spending(self, run_id: str) -> Spending:
        """Return what the run has spent so far, including before restarts."""
        return await self.ask(_spending, run_id)

    async def rollouts_done(self, run_id: str) -> int:
        """Return the number of the run's rollouts that have a result."""
        return await self.ask(_rollouts_done, run_id)

    async def events(self, run_id: str, after: int = 0, limit: int = EVENTS_AT_ONCE) -> list[Event]:
        """Return up to `limit` of the run's events with a seq above `after`, without kinds unknown to this version."""
        return await self.ask(_events, run_id, after, limit)

    async def set_aside(self, run_id: str) -> list[tuple[Split, int]]:
        """Return the split and the index of each example that the run has set aside."""
        return await self.ask(_set_aside, run_id)

    async def last_pause(self, run_id: str) -> RunPaused | None:
        """Return the event of the run's last pause, which may be over; None if it was never paused."""
        return await self.ask(_last_pause, run_id)

    async def is_stopped(self, run: Run) -> bool:
        """Return whether a request has stopped the run, and neither a request nor a new start has continued it."""
        return await self.ask(was_stopped, run)

    async def last_event(self, run_id: str) -> int:
        """Return the seq of the run's newest event; 0 if it has none."""
        return await self.ask(_last_event, run_id)


def find_run(db: sqlite3.Connection, run_id: str) -> Run:
    """Return the run of that name. Raise UnknownRunError if there is none."""
    row = db.execute(f"SELECT {_RUN_COLUMNS} FROM runs WHERE run_id = ?", [run_id]).fetchone()
    if row is None:
        known = ", ".join(run.run_id for run in all_runs(db)) or "no runs"
        raise UnknownRunError(f"{path_of(db)} has no run {run_id!r}; it has {known}")
    return _run(row)


def all_runs(db: sqlite3.Connection) -> list[Run]:
    """Return all runs, the oldest first."""
    return [_run(row) for row in db.execute(f"SELECT {_RUN_COLUMNS} FROM runs ORDER BY created, run_id")]


def find_programs(db: sqlite3.Connection, run_id: str, numbers: Collection[int] | None = None) -> list[Program]:
    """Return the run's programs by number: all, or those of these `numbers` that there are."""
    chosen = "" if numbers is None else "AND number IN (SELECT value FROM json_each(:numbers)) "
    rows = db.execute(
        f"SELECT {PROGRAM_COLUMNS}, value FROM programs JOIN configurations USING (digest) "
        f"WHERE run_id = :run {chosen}ORDER BY number",
        {"run": run_id, "numbers": dumps(list(numbers or ()))},
    ).fetchall()
    configurations = load_shared(db, (row[-1] for row in rows))
    return [
        Program(number, digest, configuration, tuple(loads(parents)), strategy, step, loads(provenance))
        for (number, digest, parents, strategy, step, provenance, _), configuration in zip(
            rows, configurations, strict=True
        )
    ]


def path_of(db: sqlite3.Connection) -> str:
    """Return the path of the file that `db` is connected to."""
    return str(db.execute("PRAGMA database_list").fetchone()[2]) or "the store"


_RUN_COLUMNS = "run_id, status, reason, fingerprint, settings, result, created, updated"


def _run(row: Any) -> Run:
    run_id, status, reason, fingerprint, settings, result, created, updated = row
    shown = loads(settings)
    prompts = shown.pop(PROMPTS, {})
    return Run(run_id, status, reason, loads(fingerprint), shown, loads(result), created, updated, prompts)


def _steps(db: sqlite3.Connection, run_id: str) -> list[Step]:
    rows = db.execute("SELECT step, plan, result FROM steps WHERE run_id = ? ORDER BY step", [run_id])
    return [Step(step, loads(plan), loads(result)) for step, plan, result in rows]


def _position_of(db: sqlite3.Connection, run_id: str) -> Position:
    """Go through all steps one by one, since each has the changes of the policy's state alone."""
    position, states = Position(), States()
    rows = db.execute("SELECT step, plan, result FROM steps WHERE run_id = ? ORDER BY step", [run_id])
    for step, plan, result in rows:
        stored: dict[str, JSON] = loads(plan)
        planned = states.of_plan(stored)
        if result is None:
            position.open_steps.append(Step(step, {**stored, "state": planned}, None))
        else:
            position.closed = states.of_result(step, loads(result), planned)
            position.steps_closed += 1
    return position


_PROGRESS_COLUMNS = "step, json_object('best', result -> '$.best', 'outlook', result -> '$.outlook'), progress"


def _progress(db: sqlite3.Connection, run_id: str) -> Progress | None:
    from simba_actors.search.progress import stored_progress  # It takes numpy, which most readers never need.

    rows = db.execute(
        f"SELECT {_PROGRESS_COLUMNS} FROM steps WHERE run_id = ? AND progress IS NOT NULL ORDER BY step", [run_id]
    ).fetchall()
    return stored_progress((step, loads(result), loads(progress)) for step, result, progress in rows)


def _last_progress(db: sqlite3.Connection, run_id: str) -> StepProgress | None:
    from simba_actors.search.progress import StepProgress

    row = db.execute(
        f"SELECT {_PROGRESS_COLUMNS} FROM steps WHERE run_id = ? AND progress IS NOT NULL ORDER BY step DESC LIMIT 1",
        [run_id],
    ).fetchone()
    return None if row is None else StepProgress.from_store(row[0], loads(row[1]), loads(row[2]))


def _proposals(db: sqlite3.Connection, run_id: str, step: int) -> list[ProposalRecord]:
    rows = db.execute(
        f"SELECT {PROPOSAL_COLUMNS} FROM proposals WHERE run_id = ? AND step = ? ORDER BY slot", [run_id, step]
    )
    return [
        ProposalRecord(step, index, loads(intent), program, reason, Usage(*usage))
        for step, index, intent, program, reason, *usage in rows
    ]


def _rollouts(db: sqlite3.Connection, run_id: str, step: int, phase: Phase, program: int | None) -> list[RolloutRecord]:
    which = "run_id = ? AND step = ? AND phase = ? AND (? IS NULL OR program = ?)"
    values = [run_id, step, phase, program, program]
    # As one row, since Python's sqlite3 releases the interpreter for each row, and a busy host gives it back after 5
    # ms.
    planned = db.execute(
        f"SELECT json_group_array(json_array({INTENT_COLUMNS})) FROM rollouts WHERE {which} AND outcome IS NULL",
        values,
    ).fetchone()
    done = db.execute(
        f"SELECT {INTENT_COLUMNS}, {RESULT_COLUMNS} FROM rollouts WHERE {which} AND outcome IS NOT NULL", values
    )
    return sorted(rollout_records(db, [*loads(planned[0]), *done]), key=_position)


def _buckets(db: sqlite3.Connection, run_id: str, step: int, examples: Sequence[int]) -> dict[int, Bucket]:
    rows = db.execute(
        f"SELECT {INTENT_COLUMNS}, {RESULT_COLUMNS} FROM rollouts WHERE run_id = ? AND step = ? AND phase = 'sample' "
        "AND outcome IS NOT NULL AND example IN (SELECT value FROM json_each(?)) ORDER BY position",
        [run_id, step, dumps(examples)],
    )
    samples: dict[int, list[Sample]] = {}
    for record in rollout_records(db, rows):
        if record.trajectory is not None:
            samples.setdefault(record.rollout.example, []).append(Sample(record.rollout, record.trajectory))
    return {example: make_bucket(example, own) for example, own in samples.items()}


def _position(record: RolloutRecord) -> int:
    return record.rollout.key.position


_OBJECTIVE_SCORE = "COALESCE(json_extract(trajectory, '$.feedback.' || :name), 0.0)"


def _scores(db: sqlite3.Connection, run_id: str, score: str, name: str | None) -> list[Score]:
    from simba_actors.search.evidence import Score  # It needs numpy, which reading alone does not.

    rows = db.execute(
        f"SELECT step, phase, position, program, example, {score}, model, split, outcome FROM rollouts "
        "WHERE run_id = :run AND outcome IS NOT NULL ORDER BY step, phase, position",
        {"run": run_id, "name": name},
    )
    models: dict[str, ModelSpec] = {}
    return [
        Score(
            RolloutKey(step, phase, position),
            program,
            example,
            score,
            _model(model, models),
            split,
            failed=outcome == Outcome.PROGRAM_FAILURE,
        )
        for step, phase, position, program, example, score, model, split, outcome in rows
    ]


def _model(text: str, known: dict[str, ModelSpec]) -> ModelSpec:
    if text not in known:
        known[text] = ModelSpec(*loads(text))
    return known[text]


TOTAL_USAGE = (
    "TOTAL(calls), TOTAL(prompt_tokens), TOTAL(completion_tokens), TOTAL(cost), TOTAL(tokens_unknown), "
    "TOTAL(cost_unknown)"
)
"""Columns from which `usage_of_totals` makes a Usage."""

ROLLOUT_SUMS = (
    "COUNT(outcome), TOTAL(outcome <> 'scored'), TOTAL(score), TOTAL(score * score), TOTAL(calls), "
    "TOTAL(prompt_tokens), TOTAL(completion_tokens), TOTAL(cost), "
    "TOTAL(outcome IS NOT NULL AND (prompt_tokens IS NULL OR completion_tokens IS NULL)), "
    "TOTAL(outcome IS NOT NULL AND cost IS NULL)"
)
"""Sums of rollouts, in the order of the columns that `tallies` keeps up to date by step, phase, program and LM."""

USED_BY_PROPOSALS = (
    "SELECT calls, prompt_tokens, completion_tokens, cost, step, "
    "prompt_tokens IS NULL OR completion_tokens IS NULL AS tokens_unknown, cost IS NULL AS cost_unknown "
    "FROM proposals WHERE run_id = :run"
)
"""Usage of strategies, in the columns that `tallies` has for rollouts."""


def usage_of_totals(row: Any) -> Usage:
    """Return the Usage of a row of `TOTAL_USAGE`. A total is unknown if any of its parts is."""
    calls, prompt, completion, cost, tokens_unknown, cost_unknown = row
    return Usage(
        int(calls),
        None if tokens_unknown else int(prompt),
        None if tokens_unknown else int(completion),
        None if cost_unknown else float(cost),
    )


def _usage_by_lm(db: sqlite3.Connection, run_id: str, step: int | None) -> dict[str, Usage]:
    values = {"run": run_id, "step": step}
    which = "(:step IS NULL OR step = :step)"
    rows = db.execute(f"SELECT lm, {TOTAL_USAGE} FROM tallies WHERE run_id = :run AND {which} GROUP BY lm", values)
    used = {lm: usage_of_totals(totals) for lm, *totals in rows}
    count, *totals = db.execute(
        f"SELECT COUNT(*), {TOTAL_USAGE} FROM ({USED_BY_PROPOSALS}) WHERE {which}", values
    ).fetchone()
    if count:
        used[PROMPT_MODEL] = usage_of_totals(totals)
    rest = None if step is not None else usage_without_result(db, run_id, sum(used.values(), start=Usage()))
    return used if rest is None else {**used, WITHOUT_RESULT: rest}


def usage_without_result(db: sqlite3.Connection, run_id: str, of_results: Usage) -> Usage | None:
    """Return the usage of the calls that the run has counted beyond those of its results; None if there are none.

    Of their tokens only the sum is known. It is divided into prompt and completion as those of the results are.
    """
    counted, tokens, known = _spending(db, run_id), of_results.tokens, of_results
    if counted.calls <= known.calls:
        return None
    cost = None if known.cost is None else max(0.0, counted.cost - known.cost)
    if tokens is None or known.completion_tokens is None:
        return Usage(counted.calls - known.calls, None, None, cost)
    rest = max(0, counted.tokens - tokens)
    completion = rest * known.completion_tokens // tokens if tokens else 0
    return Usage(counted.calls - known.calls, rest - completion, completion, cost)


def _spending(db: sqlite3.Connection, run_id: str) -> Spending:
    row = db.execute(
        "SELECT calls_reserved, tokens_used, cost_used, seconds_up FROM runs WHERE run_id = ?", [run_id]
    ).fetchone()
    return Spending() if row is None else Spending(*row)


def _rollouts_done(db: sqlite3.Connection, run_id: str) -> int:
    return int(db.execute("SELECT TOTAL(done) FROM tallies WHERE run_id = ?", [run_id]).fetchone()[0])


def _events(db: sqlite3.Connection, run_id: str, after: int, limit: int) -> list[Event]:
    rows = db.execute(
        f"SELECT {EVENT_COLUMNS} FROM events WHERE run_id = ? AND seq > ? ORDER BY seq LIMIT ?", [run_id, after, limit]
    )
    events = (event_of(run_id, row) for row in rows)
    return [event for event in events if event is not None]


def _set_aside(db: sqlite3.Connection, run_id: str) -> list[tuple[Split, int]]:
    return db.execute(
        "SELECT data ->> 'split', data ->> 'example' FROM events WHERE run_id = ? AND kind = 'ExampleSetAside'",
        [run_id],
    ).fetchall()


def _last_pause(db: sqlite3.Connection, run_id: str) -> RunPaused | None:
    from simba_actors.events import RunPaused

    row = db.execute(
        "SELECT data FROM events WHERE run_id = ? AND kind = 'RunPaused' ORDER BY seq DESC LIMIT 1", [run_id]
    ).fetchone()
    return None if row is None else RunPaused(**loads(row[0]))


def was_stopped(db: sqlite3.Connection, run: Run) -> bool:
    """Return whether a request has stopped the run, and neither a request nor a new start has continued it."""
    paused = _last_pause(db, run.run_id) if run.status == "paused" else None
    return paused is not None and paused.cause == "stop"


def _last_event(db: sqlite3.Connection, run_id: str) -> int:
    return int(db.execute(LAST_EVENT, [run_id]).fetchone()[0])


def _data_version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA data_version").fetchone()[0])
