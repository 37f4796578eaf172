"""Writing to the store: whole transactions by the one owner of a run."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiosqlite

from simba_actors.errors import FingerprintMismatchError, LeaseLostError
from simba_actors.events import Event, to_json
from simba_actors.store.encoding import INTENT_COLUMNS, RESULT_COLUMNS, dumps, intent_row, loads, result_row
from simba_actors.store.failures import told_of
from simba_actors.store.opening import BUSY_SECONDS, open_for_writing
from simba_actors.store.ownership import LEASE_SECONDS, Owner, check_free
from simba_actors.store.reading import Reader
from simba_actors.store.records import (
    AddProgram,
    AddRollouts,
    CloseStep,
    NewRun,
    OpenStep,
    Program,
    RecordGauges,
    RecordProposal,
    RecordRollout,
    ReserveCalls,
    Run,
    SetStatus,
    Write,
)

_INSERT_ROLLOUT = f"INSERT OR IGNORE INTO rollouts (run_id, {INTENT_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_RECORD_ROLLOUT = (
    f"UPDATE rollouts SET ({RESULT_COLUMNS}) = (?, ?, ?, ?, ?, ?, ?, ?) "
    "WHERE run_id = ? AND step = ? AND phase = ? AND position = ? AND outcome IS NULL"
)
_INSERT_CONFIGURATION = "INSERT OR IGNORE INTO configurations VALUES (?, ?)"
_INSERT_PROGRAM = "INSERT OR IGNORE INTO programs VALUES (?, ?, ?, ?, ?, ?, ?)"
_INSERT_PROPOSAL = "INSERT OR IGNORE INTO proposals VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_INSERT_STEP = "INSERT OR IGNORE INTO steps (run_id, step, plan) VALUES (?, ?, ?)"
_CLOSE_STEP = "UPDATE steps SET result = ?, progress = ? WHERE run_id = ? AND step = ? AND result IS NULL"
_SET_STATUS = "UPDATE runs SET status = ?, reason = ?, result = ? WHERE run_id = ?"
_RESERVE_CALLS = "UPDATE runs SET calls_reserved = calls_reserved + ? WHERE run_id = ?"
_INSERT_EVENT = "INSERT INTO events VALUES (?, ?, ?, ?, ?)"
_RECORD_GAUGE = "INSERT OR REPLACE INTO gauges VALUES (?, ?, ?, ?, ?)"
_RENEW_LEASE = "UPDATE runs SET updated = ?, lease_until = ? WHERE run_id = ? AND owner_token = ?"


@dataclass(slots=True)
class Store:
    """The one writer of a store's file.

        store = await Store.open("simba.db")
        run = await store.claim(new_run, Owner.this_process())
        await store.commit(run.run_id, owner, [OpenStep(…)], [StepOpened(…)])

    `read` answers questions, on the same connection. `clock` gives seconds since the Unix epoch.
    """

    path: Path
    read: Reader
    _db: aiosqlite.Connection
    _clock: Callable[[], float]
    _lease_seconds: float
    _closed: bool = False

    @classmethod
    async def open(
        cls,
        path: str | Path,
        *,
        clock: Callable[[], float] = time.time,
        busy_seconds: float = BUSY_SECONDS,
        lease_seconds: float = LEASE_SECONDS,
    ) -> Store:
        """The store at `path`, made if there is none.

        Raises:
            StoreError: Its file can't be used; the subclass and the message say why and what to do.
        """
        path = Path(path)
        db = await open_for_writing(path, busy_seconds)
        return cls(path, Reader(path, db), db, clock, lease_seconds)

    async def close(self) -> None:
        self._closed = True
        await self._db.close()

    def abandon(self) -> None:
        """Closes the file without waiting for that; a transaction that is open is undone. After `close`, nothing."""
        if not self._closed:
            self._closed = True
            self._db.stop()

    async def claim(self, new: NewRun, owner: Owner) -> Run:
        """Makes the run, or takes it over where its last owner is gone. A finished run is given as it is.

        Raises:
            RunOwnedError: A living process has it open.
            FingerprintMismatchError: It was started with another student, trainset, metric or settings.
        """
        now = self._clock()
        with told_of(self.path):
            await self._db.execute("BEGIN IMMEDIATE")
            try:
                await self._take(new, owner, now)
                await self._db.execute("COMMIT")
            except BaseException:
                await self._db.execute("ROLLBACK")
                raise
        return await self.read.run(new.run_id)

    async def _take(self, new: NewRun, owner: Owner, now: float) -> None:
        cursor = await self._db.execute(
            "SELECT owner, owner_token, lease_until, fingerprint FROM runs WHERE run_id = ?", [new.run_id]
        )
        row = await cursor.fetchone()
        lease = [owner.to_json(), owner.token, now + self._lease_seconds]
        if row is None:
            await self._db.execute(
                "INSERT INTO runs (run_id, status, fingerprint, settings, created, updated, owner, owner_token, "
                "lease_until) VALUES (?, 'running', ?, ?, ?, ?, ?, ?, ?)",
                [new.run_id, dumps(new.fingerprint), dumps(new.settings), now, now, *lease],
            )
            return
        check_free(new.run_id, {"owner": row[0], "owner_token": row[1], "lease_until": row[2]}, owner, now)
        _check_fingerprint(new, loads(row[3]))
        await self._db.execute(
            "UPDATE runs SET updated = ?, owner = ?, owner_token = ?, lease_until = ? WHERE run_id = ?",
            [now, *lease, new.run_id],
        )

    async def release(self, run_id: str, owner: Owner) -> None:
        """Lets go of the run, for another process to take at once."""
        with told_of(self.path):
            await self._db.execute(
                "UPDATE runs SET owner = NULL, owner_token = NULL WHERE run_id = ? AND owner_token = ?",
                [run_id, owner.token],
            )

    async def commit(
        self, run_id: str, owner: Owner, writes: Sequence[Write] = (), events: Sequence[Event] = ()
    ) -> list[Event]:
        """Stores `writes` and `events` in one transaction, all or nothing, and renews the owner's lease.

        Returns:
            The events, stamped.

        Raises:
            LeaseLostError: Another process has taken the run over. Nothing was stored.
            StoreError: The file could not be written. Nothing was stored, and the same commit can be tried again.
        """
        now = self._clock()
        with told_of(self.path):
            await self._db.execute("BEGIN IMMEDIATE")
            try:
                await self._renew_lease(run_id, owner, now)
                stamped = await self._stamped(run_id, events, now)
                statements = _statements(run_id, writes, stamped)
                for sql, rows in statements.items():
                    await self._db.executemany(sql, rows)
                await self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    await self._db.execute("ROLLBACK")
                raise
        return stamped

    async def _stamped(self, run_id: str, events: Sequence[Event], now: float) -> list[Event]:
        """Within the transaction, since publications add events to a run that other processes may have open."""
        seq = await self.read.last_event(run_id) if events else 0
        return [event.stamped(run_id, seq + place, now) for place, event in enumerate(events, start=1)]

    async def _renew_lease(self, run_id: str, owner: Owner, now: float) -> None:
        cursor = await self._db.execute(_RENEW_LEASE, [now, now + self._lease_seconds, run_id, owner.token])
        if cursor.rowcount != 1:
            raise LeaseLostError(
                f"run {run_id!r} was taken over by another process; this one may not write it any more"
            )


def _check_fingerprint(new: NewRun, stored: dict[str, str]) -> None:
    parts = sorted({*stored, *new.fingerprint})
    differing = tuple(part for part in parts if stored.get(part) != new.fingerprint.get(part))
    if differing:
        details = "; ".join(
            f"{p}: stored {stored.get(p)!s:.60}, given {new.fingerprint.get(p)!s:.60}" for p in differing
        )
        raise FingerprintMismatchError(
            f"run {new.run_id!r} was started with other values of {', '.join(differing)} ({details}). "
            "Give the same ones to go on with it, or another run_id to start anew.",
            differing,
        )


def _statements(run_id: str, writes: Sequence[Write], events: Sequence[Event]) -> dict[str, list[tuple[Any, ...]]]:
    """The rows to write, by SQL statement, in an order that satisfies references."""
    rows: defaultdict[str, list[tuple[Any, ...]]] = defaultdict(list)
    for sql in (_INSERT_CONFIGURATION, _INSERT_PROGRAM, _INSERT_STEP, _INSERT_PROPOSAL, _INSERT_ROLLOUT):
        rows[sql] = []
    for write in writes:
        for sql, row in _rows_of(run_id, write):
            rows[sql].append(row)
    for event in events:
        rows[_INSERT_EVENT].append((run_id, event.seq, event.time, type(event).__name__, dumps(to_json(event))))
    return {sql: values for sql, values in rows.items() if values}


def _rows_of(run_id: str, write: Write) -> list[tuple[str, tuple[Any, ...]]]:
    match write:
        case RecordRollout(key=key, trajectory=trajectory):
            row = (*result_row(trajectory), run_id, key.step, key.phase, key.position)
            return [(_RECORD_ROLLOUT, row)]
        case OpenStep(step=step, plan=plan, rollouts=rollouts):
            return [(_INSERT_STEP, (run_id, step, dumps(plan))), *_intents(run_id, rollouts)]
        case AddRollouts(rollouts=rollouts):
            return _intents(run_id, rollouts)
        case RecordProposal(step=step, slot=slot, intent=intent, program=program, reason=reason, usage=usage):
            number = None if program is None else program.number
            tokens = (usage.calls, usage.prompt_tokens, usage.completion_tokens, usage.cost)
            proposal = (_INSERT_PROPOSAL, (run_id, step, slot, dumps(intent), number, reason, *tokens))
            added = [] if program is None else _program(run_id, program)
            return [*added, proposal, *_intents(run_id, write.rollouts)]
        case AddProgram(program=program):
            return _program(run_id, program)
        case CloseStep(step=step, result=result, progress=progress):
            return [(_CLOSE_STEP, (dumps(result), None if progress is None else dumps(progress), run_id, step))]
        case SetStatus(status=status, reason=reason, result=result):
            return [(_SET_STATUS, (status, reason, None if result is None else dumps(result), run_id))]
        case ReserveCalls(calls=calls):
            return [(_RESERVE_CALLS, (calls, run_id))]
        case RecordGauges(gauges=gauges):
            return [(_RECORD_GAUGE, (run_id, g.actor, g.mailbox, g.handled, g.state)) for g in gauges]


def _intents(run_id: str, rollouts: Sequence[Any]) -> list[tuple[str, tuple[Any, ...]]]:
    return [(_INSERT_ROLLOUT, (run_id, *intent_row(rollout))) for rollout in rollouts]


def _program(run_id: str, program: Program) -> list[tuple[str, tuple[Any, ...]]]:
    row = (
        run_id,
        program.number,
        program.digest,
        dumps(program.parents),
        program.strategy,
        program.step,
        dumps(program.provenance),
    )
    return [
        (_INSERT_CONFIGURATION, (program.digest, dumps(program.configuration))),
        (_INSERT_PROGRAM, row),
    ]
