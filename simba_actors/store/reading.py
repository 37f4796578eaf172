"""What can be asked of a store. Reading never locks or changes anything."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

import anyio

from simba_actors.errors import UnknownRunError
from simba_actors.events import EVENT_TYPES, Event, from_json
from simba_actors.search.evidence import Score
from simba_actors.search.plan import STUDENT_LM, ModelSpec, Phase, RolloutKey
from simba_actors.search.trajectory import Outcome, Usage
from simba_actors.store.connection import Connection
from simba_actors.store.encoding import INTENT_COLUMNS, RESULT_COLUMNS, loads, rollout_record
from simba_actors.store.error_translation import told_of
from simba_actors.store.opening import open_for_reading
from simba_actors.store.records import Program, Proposal, RolloutRecord, Run, Step

if TYPE_CHECKING:
    from simba_actors.search.progress import Progress

P = ParamSpec("P")
R = TypeVar("R")

EVENTS_AT_ONCE = 1_000

LAST_EVENT = "SELECT COALESCE(MAX(seq), 0) FROM events WHERE run_id = ?"

PROMPT_MODEL = "prompt_model"
"""Stands beside the names of the model pool for the LM that writes rules."""


class Reader:
    """Answers questions about the runs of one file.

    async with await Reader.open("simba.db") as reader:
        for run in await reader.runs():
            print(run.run_id, run.status)
    """

    def __init__(self, path: Path, db: Connection) -> None:
        self.path = path
        self._db = db

    @classmethod
    async def open(cls, path: str | Path) -> Self:
        """A reader of the store at `path`, beside whoever writes it. Raises StoreError where it can't be read."""
        return cls(Path(path), await open_for_reading(Path(path)))

    async def close(self) -> None:
        with anyio.CancelScope(shield=True):  # A cancelled reader leaves no connection behind either.
            await self._db.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _rows(self, sql: str, parameters: Iterable[Any] | Mapping[str, Any] = ()) -> list[Any]:
        with told_of(self.path):
            return list(await self._db.execute_fetchall(sql, parameters))

    async def ask(self, query: Callable[Concatenate[sqlite3.Connection, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Return `query(db, *args, **kwargs)`, called in the connection's thread within one transaction."""
        with told_of(self.path):
            return await self._db.transact(lambda db: query(db, *args, **kwargs), "DEFERRED")

    async def data_version(self) -> int:
        """A number that changes when another connection has changed the store."""
        return int((await self._rows("PRAGMA data_version"))[0][0])

    async def run(self, run_id: str) -> Run:
        """The run of that name. Raises UnknownRunError, which names those that there are, if there is none."""
        rows = await self._rows(f"SELECT {_RUN_COLUMNS} FROM runs WHERE run_id = ?", [run_id])
        if not rows:
            known = ", ".join(run.run_id for run in await self.runs()) or "no runs"
            raise UnknownRunError(f"{self.path} has no run {run_id!r}; it has {known}")
        return _run(rows[0])

    async def runs(self) -> list[Run]:
        """All runs, the oldest first."""
        return [_run(row) for row in await self._rows(f"SELECT {_RUN_COLUMNS} FROM runs ORDER BY created, run_id")]

    async def programs(self, run_id: str) -> list[Program]:
        """The pool, by number."""
        rows = await self._rows(
            "SELECT number, digest, value, parents, strategy, step, provenance "
            "FROM programs JOIN configurations USING (digest) WHERE run_id = ? ORDER BY number",
            [run_id],
        )
        return [
            Program(number, digest, loads(value), tuple(loads(parents)), strategy, step, loads(provenance))
            for number, digest, value, parents, strategy, step, provenance in rows
        ]

    async def steps(self, run_id: str) -> list[Step]:
        rows = await self._rows("SELECT step, plan, result FROM steps WHERE run_id = ? ORDER BY step", [run_id])
        return [Step(step, loads(plan), loads(result)) for step, plan, result in rows]

    async def progress(self, run_id: str) -> Progress | None:
        """How far the run is by its last closed step; None where it has closed none."""
        from simba_actors.search.progress import stored_progress  # It needs numpy, which reading alone does not.

        rows = await self._rows(
            "SELECT step, result, progress FROM steps WHERE run_id = ? AND result IS NOT NULL ORDER BY step", [run_id]
        )
        return stored_progress((step, loads(result), loads(progress)) for step, result, progress in rows)

    async def proposals(self, run_id: str, step: int) -> list[Proposal]:
        """The step's proposals that have an outcome, by slot."""
        rows = await self._rows(
            "SELECT step, slot, intent, program, reason, calls, prompt_tokens, completion_tokens, cost "
            "FROM proposals WHERE run_id = ? AND step = ? ORDER BY slot",
            [run_id, step],
        )
        return [Proposal(s, slot, loads(i), p, r, Usage(*usage)) for s, slot, i, p, r, *usage in rows]

    async def rollouts(self, run_id: str, step: int, phase: Phase, program: int | None = None) -> list[RolloutRecord]:
        """The rollouts of a step and phase with what they left, in the order of the plan."""
        which = "run_id = ? AND step = ? AND phase = ? AND (? IS NULL OR program = ?)"
        values = [run_id, step, phase, program, program]
        # As one row: Python's sqlite3 lets go of the interpreter for each, and a busy host gives it back after 5 ms.
        planned = await self._rows(
            f"SELECT json_group_array(json_array({INTENT_COLUMNS})) FROM rollouts WHERE {which} AND outcome IS NULL",
            values,
        )
        done = await self._rows(
            f"SELECT {INTENT_COLUMNS}, {RESULT_COLUMNS} FROM rollouts WHERE {which} AND outcome IS NOT NULL", values
        )
        records = [rollout_record(row) for row in (*loads(planned[0][0]), *done)]
        return sorted({record.rollout.key: record for record in records}.values(), key=_position)

    async def scores(self, run_id: str) -> list[Score]:
        """Every scored rollout, without its trajectory, in the order of the plans."""
        rows = await self._rows(
            "SELECT step, phase, position, program, example, score, model, split, outcome FROM rollouts "
            "WHERE run_id = ? AND outcome IS NOT NULL ORDER BY step, phase, position",
            [run_id],
        )
        return await asyncio.to_thread(_scores, rows)  # Of a long run there are enough to hold up the event loop.

    async def objective_scores(self, run_id: str, objective: str) -> list[Score]:
        """What the metric gave by that name, as in `scores`; the 0 of program failures counts for each objective."""
        rows = await self._rows(
            "SELECT step, phase, position, program, example, "
            "COALESCE(json_extract(trajectory, '$.feedback.' || ?), 0.0), model, split, outcome FROM rollouts "
            "WHERE run_id = ? AND outcome IS NOT NULL ORDER BY step, phase, position",
            [objective, run_id],
        )
        return await asyncio.to_thread(_scores, rows)

    async def usage(self, run_id: str) -> Usage:
        """What all rollouts and strategies of the run have used; unknown where it is unknown for any of them."""
        return sum((await self.usage_by_lm(run_id)).values(), start=Usage())

    async def usage_by_lm(self, run_id: str, step: int | None = None) -> dict[str, Usage]:
        """The same by name of the model pool's LMs, and `PROMPT_MODEL` for what wrote rules; of one `step` if given.

        Of a student whose predictors have LMs of their own, all of that is the "student"'s, and so are LM calls that
        the metric makes.
        """
        of_rollouts = _USED_BY_LMS if await self._has_other_lms(run_id) else _USED_BY_STUDENT
        rows = await self._rows(
            "SELECT lm, TOTAL(calls), TOTAL(prompt_tokens), TOTAL(completion_tokens), TOTAL(cost), "
            "TOTAL(tokens_unknown), TOTAL(cost_unknown) "
            f"FROM ({of_rollouts} UNION ALL {_USED_BY_STRATEGIES}) GROUP BY lm",
            {"run": run_id, "step": step, "prompt_model": PROMPT_MODEL},
        )
        return {
            lm: Usage(
                int(calls),
                None if tokens_unknown else int(prompt),
                None if tokens_unknown else int(completion),
                None if cost_unknown else float(cost),
            )
            for lm, calls, prompt, completion, cost, tokens_unknown, cost_unknown in rows
        }

    async def _has_other_lms(self, run_id: str) -> bool:
        """Whether others than the student's LM sample trajectories, which tallies don't tell apart."""
        rows = await self._rows("SELECT fingerprint FROM runs WHERE run_id = ?", [run_id])
        return bool(rows) and sum(part.endswith(" lm") for part in loads(rows[0][0])) > 1

    async def seconds_up(self, run_id: str) -> float:
        """How long the run was up over all its lives, by its events; the time that it was paused does not count."""
        rows = await self._rows(
            "SELECT TOTAL(time - before) FROM (SELECT kind, time, LAG(time) OVER (ORDER BY seq) AS before FROM events "
            "WHERE run_id = ?) WHERE kind <> 'RunResumed' AND before IS NOT NULL",
            [run_id],
        )
        return float(rows[0][0])

    async def rollouts_done(self, run_id: str) -> int:
        rows = await self._rows("SELECT TOTAL(done) FROM tallies WHERE run_id = ?", [run_id])
        return int(rows[0][0])

    async def calls_reserved(self, run_id: str) -> int:
        rows = await self._rows("SELECT calls_reserved FROM runs WHERE run_id = ?", [run_id])
        return int(rows[0][0]) if rows else 0

    async def events(self, run_id: str, after: int = 0, limit: int = EVENTS_AT_ONCE) -> list[Event]:
        """The run's events with a seq above `after`, at most `limit`. Kinds that a newer version added are left out."""
        rows = await self._rows(
            "SELECT seq, time, kind, data FROM events WHERE run_id = ? AND seq > ? ORDER BY seq LIMIT ?",
            [run_id, after, limit],
        )
        return [
            from_json(kind, loads(data), run_id=run_id, seq=seq, time=time)
            for seq, time, kind, data in rows
            if kind in EVENT_TYPES
        ]

    async def last_event(self, run_id: str) -> int:
        """The seq of the run's newest event; 0 if it has none."""
        rows = await self._rows(LAST_EVENT, [run_id])
        return int(rows[0][0])


_USED = "calls, prompt_tokens, completion_tokens, cost"
_UNKNOWN = "prompt_tokens IS NULL OR completion_tokens IS NULL AS tokens_unknown, cost IS NULL AS cost_unknown"
_OF_RUN_OR_STEP = "run_id = :run AND (:step IS NULL OR step = :step)"
_USED_BY_STUDENT = (
    f"SELECT '{STUDENT_LM}' AS lm, {_USED}, tokens_unknown, cost_unknown FROM tallies WHERE {_OF_RUN_OR_STEP}"
)
_USED_BY_LMS = (
    f"SELECT json_extract(model, '$[0]') AS lm, {_USED}, {_UNKNOWN} FROM rollouts "
    f"WHERE {_OF_RUN_OR_STEP} AND outcome IS NOT NULL"
)
_USED_BY_STRATEGIES = f"SELECT :prompt_model AS lm, {_USED}, {_UNKNOWN} FROM proposals WHERE {_OF_RUN_OR_STEP}"

_RUN_COLUMNS = "run_id, status, reason, fingerprint, settings, result, created, updated"


def _run(row: Any) -> Run:
    run_id, status, reason, fingerprint, settings, result, created, updated = row
    return Run(run_id, status, reason, loads(fingerprint), loads(settings), loads(result), created, updated)


def _position(record: RolloutRecord) -> int:
    return record.rollout.key.position


def _scores(rows: list[Any]) -> list[Score]:
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
