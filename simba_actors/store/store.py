"""Writing to the store: whole transactions by the one owner of a run, and the SQL of each write."""

from __future__ import annotations

import sqlite3
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

from simba_actors.errors import StoreError
from simba_actors.events import Event
from simba_actors.runtime.logs import get_logger
from simba_actors.runtime.threads import THREAD_REMEDY
from simba_actors.search.rollout import JSON, Rollout
from simba_actors.store.connection import Connection, FileGuard, translate_errors
from simba_actors.store.encoding import (
    EVENT_COLUMNS,
    INTENT_COLUMNS,
    PROGRAM_COLUMNS,
    PROPOSAL_COLUMNS,
    RESULT_COLUMNS,
    checksum,
    dumps,
    event_row,
    intent_row,
    result_row,
    share_texts,
    storable_text,
)
from simba_actors.store.leases import LeaseKeeper
from simba_actors.store.open_stores import check_not_inherited, note_closed, note_open
from simba_actors.store.opening import BUSY_SECONDS, checked_path, open_for_writing
from simba_actors.store.ownership import LEASE_SECONDS, Holding, Owner, lease_lost, renew, take
from simba_actors.store.queries.ledger_queries import last_event
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
    RecordSpending,
    Request,
    ReserveCalls,
    Run,
    SetStatus,
    Write,
)

logger = get_logger(__name__)


@dataclass(slots=True)
class Store:
    """The one writer of a store's file.

        store = await Store.open("simba.db")
        owner = Owner.this_process()
        run = await store.claim(new_run, owner)
        await store.commit(run.run_id, owner, [OpenStep(…)], [StepOpened(…)])
        await store.release(run.run_id, owner)
        await store.close()

    `read` answers questions, on the same connection. `clock` returns seconds since the Unix epoch.
    """

    path: Path
    read: Reader
    _db: Connection
    _guard: FileGuard
    _clock: Callable[[], float]
    _lease_seconds: float
    _leases: dict[str, LeaseKeeper] = field(default_factory=dict[str, LeaseKeeper])
    _closed: bool = False

    @classmethod
    async def open(
        cls,
        path: str | Path,
        *,
        clock: Callable[[], float] = time.time,
        busy_seconds: float = BUSY_SECONDS,
        lease_seconds: float = LEASE_SECONDS,
        make: bool = True,
    ) -> Store:
        """Open the store at `path`. Create it if there is none, unless `make` is False.

        Raises:
            StoreError: Its file can't be used; the subclass and the message say why and what to do.
        """
        checked = checked_path(path)
        with translate_errors(checked):
            check_not_inherited(checked)
        db = await open_for_writing(checked, busy_seconds, make=make)
        try:
            with translate_errors(checked):
                guard = FileGuard(checked)
        except BaseException:
            await db.close()
            raise
        note_open(guard.identity)
        return cls(checked, Reader(checked, db), db, guard, clock, lease_seconds)

    async def close(self) -> None:
        """Close the file. Does nothing if it is closed."""
        if not self._closed:
            self._closed = True
            note_closed(self._guard.identity)
            try:
                await self._end_leases()
            finally:
                await self._db.close()

    def abandon(self) -> None:
        """Close the file without waiting. An open transaction is rolled back. Does nothing if the file is closed."""
        if not self._closed:
            self._closed = True
            note_closed(self._guard.identity)
            for lease in self._leases.values():
                lease.stop()
            self._db.stop()

    async def claim(
        self, new: NewRun, owner: Owner, wake: Callable[[], None] | None = None, *, expired: Holding | None = None
    ) -> Run:
        """Create the run, or take it over from an owner that is gone. A finished run is returned as it is.

        `expired` is a holding that `wait_until_free` has seen to be over, whatever the clocks say.

        From then on, until the run is released or the store closed, a thread renews the owner's lease. It calls `wake`
        in the event loop when another process has sent a request; see `take_requests`.

        Raises:
            RunOwnedError: A living owner has it.
            LeaseLostError: `owner` had it before, and another owner has taken it over since.
            StoreError: The file can't be written, or the process can't start the thread.
            FingerprintMismatchError: It was started with another student, trainset, metric or settings.
        """
        now, seconds = self._clock(), self._lease_seconds
        with translate_errors(self.path):
            owner.generation = await self._db.transact(lambda db: take(db, new, owner, now, seconds, expired))
        try:
            keeper = LeaseKeeper(self.path, new.run_id, owner, seconds, self._clock, wake)
        except RuntimeError as error:
            raise StoreError(
                f"{self.path} can't be kept open, since the process can't start a thread: {THREAD_REMEDY}"
            ) from error
        self._leases[new.run_id] = keeper
        return await self.read.run(new.run_id)

    async def release(self, run_id: str, owner: Owner) -> None:
        """Give up the run so that another owner can claim it."""
        await self._end_leases()
        with translate_errors(self.path):
            await self._db.execute(
                "UPDATE runs SET owner = NULL, owner_token = NULL WHERE run_id = ? AND owner_token = ?",
                [run_id, owner.token],
            )

    async def commit(
        self, run_id: str, owner: Owner, writes: Sequence[Write] = (), events: Sequence[Event] = ()
    ) -> list[Event]:
        """Store `writes` and `events` in one transaction, all or nothing, and renew the owner's lease.

        Returns:
            The events, stamped.

        Raises:
            LeaseLostError: Another process has taken the run over. Nothing was stored.
            StoreError: The file could not be written. Nothing was stored, and the same commit can be tried again.
        """
        now = self._clock()

        def work(db: sqlite3.Connection) -> list[Event]:
            self._renew(db, run_id, owner, now)
            stamped = _stamped(db, run_id, events, now)
            for sql, values in statements(run_id, writes, stamped):
                db.execute(sql, values)
            return stamped

        with translate_errors(self.path):
            return await self._db.transact(work, check=self._guard.check)

    async def take_requests(self, run_id: str, owner: Owner) -> list[Request]:
        """Return the requests that other processes have sent since the last call, oldest first.

        Raises:
            LeaseLostError: Another process has taken the run over, and will get its requests.
        """
        now = self._clock()

        def work(db: sqlite3.Connection) -> list[Request]:
            self._renew(db, run_id, owner, now)
            return _take_requests(db, run_id, now)

        with translate_errors(self.path):
            return await self._db.transact(work)

    def _renew(self, db: sqlite3.Connection, run_id: str, owner: Owner, now: float) -> None:
        if not renew(db, run_id, owner, now, self._lease_seconds):
            raise lease_lost(run_id)

    async def _end_leases(self) -> None:
        leases = list(self._leases.values())
        self._leases.clear()
        for lease in leases:
            lease.stop()
        for lease in leases:
            await self._db.run_in_thread(lease.join)


async def store_event(path: Path, run_id: str, event: Event, clock: Callable[[], float] = time.time) -> None:
    """Append an event to the log of a run that another process may have open."""
    with translate_errors(path):
        db = await open_for_writing(path, make=False)
        try:
            await db.transact(lambda db: add_event(db, event, run_id, clock()))
        finally:
            await db.close()


def _stamped(db: sqlite3.Connection, run_id: str, events: Sequence[Event], now: float) -> list[Event]:
    """Number the events within the transaction: publications add events to runs that other processes have open."""
    seq = last_event(db, run_id) if events else 0
    return [event.stamped(run_id, seq + index, now) for index, event in enumerate(events, start=1)]


def _take_requests(db: sqlite3.Connection, run_id: str, now: float) -> list[Request]:
    """Return the run's new requests, oldest first, and mark them as taken, within the transaction that is open."""
    rows = db.execute(
        "SELECT kind, reason, requester, time FROM requests WHERE run_id = ? AND taken IS NULL ORDER BY id", [run_id]
    ).fetchall()
    db.execute("UPDATE requests SET taken = ? WHERE run_id = ? AND taken IS NULL", [now, run_id])
    return [Request(*row) for row in rows]


# ── SQL ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

Row: TypeAlias = tuple[Any, ...]

ROWS_AT_ONCE = 76
"""Maximum number of rows in one statement. They have up to 13 columns, and SQLite before 3.32 takes 999 values."""


@dataclass(frozen=True, slots=True)
class Rows:
    """SQL around the rows of a VALUES clause.

    One statement takes many rows: for each row of an `executemany`, Python's sqlite3 releases the interpreter and takes
    it back, which takes up to 5 ms each time while the host keeps the interpreter busy.
    """

    before: str
    columns: int
    after: str = ""

    def sql(self, count: int) -> str:
        row = f"({', '.join('?' * self.columns)})"
        return f"{self.before} VALUES {', '.join([row] * count)}{self.after}"


_RESULTS = RESULT_COLUMNS.split(", ")
_KEY = ("run_id", "step", "phase", "position")

INSERT_TEXTS = Rows("INSERT OR IGNORE INTO texts (digest, value)", 2)
INSERT_ROLLOUTS = Rows(f"INSERT OR IGNORE INTO rollouts (run_id, {INTENT_COLUMNS}, checksum)", 9)
RECORD_ROLLOUTS = Rows(
    f"UPDATE rollouts SET {', '.join(f'{name} = new.column{n}' for n, name in enumerate(_RESULTS, 1))}, "
    f"checksum = checksum + new.column{len(_RESULTS) + 1} FROM (",
    len(_RESULTS) + 1 + len(_KEY),
    ") AS new WHERE rollouts.outcome IS NULL AND "
    + " AND ".join(f"rollouts.{name} = new.column{n}" for n, name in enumerate(_KEY, len(_RESULTS) + 2)),
)
INSERT_CONFIGURATIONS = Rows("INSERT OR IGNORE INTO configurations (digest, value)", 2)
INSERT_PROGRAMS = Rows(f"INSERT OR IGNORE INTO programs (run_id, {PROGRAM_COLUMNS}, checksum)", 8)
INSERT_PROPOSALS = Rows(f"INSERT OR IGNORE INTO proposals (run_id, {PROPOSAL_COLUMNS}, checksum)", 11)
INSERT_STEPS = Rows("INSERT OR IGNORE INTO steps (run_id, step, plan, checksum)", 4)
INSERT_EVENTS = Rows(f"INSERT INTO events (run_id, {EVENT_COLUMNS}, checksum)", 6)
RECORD_GAUGES = Rows("INSERT OR REPLACE INTO gauges", 6)

CLOSE_STEP = (
    "UPDATE steps SET result = ?, progress = ?, checksum = checksum + ? "
    "WHERE run_id = ? AND step = ? AND result IS NULL"
)
SET_STATUS = "UPDATE runs SET status = ?, reason = ?, result = ? WHERE run_id = ?"
RECORD_SPENDING = (
    "UPDATE runs SET tokens_used = MAX(tokens_used, ?), cost_used = MAX(cost_used, ?), seconds_up = MAX(seconds_up, ?) "
    "WHERE run_id = ?"
)
RESERVE_CALLS = "UPDATE runs SET calls_reserved = calls_reserved + ? WHERE run_id = ?"

REFERRED_TO = (
    INSERT_TEXTS,
    INSERT_CONFIGURATIONS,
    INSERT_PROGRAMS,
    INSERT_STEPS,
    INSERT_PROPOSALS,
    INSERT_ROLLOUTS,
)
"""Rows that are written first, in this order, since later rows refer to them."""


def statements(run_id: str, writes: Sequence[Write], events: Sequence[Event]) -> Iterator[tuple[str, Row]]:
    """Yield SQL with its values, in an order that satisfies references."""
    texts: dict[str, str] = {}
    rows: defaultdict[Rows | str, list[Row]] = defaultdict(list)
    for into in REFERRED_TO:
        rows[into] = []
    for write in writes:
        for into, row in _rows_of(run_id, write, texts):
            rows[into].append(row)
    for event in events:
        rows[INSERT_EVENTS].append(_event(run_id, event))
    rows[INSERT_TEXTS] = list(texts.items())
    for into, values in rows.items():
        if isinstance(into, str):
            yield from ((into, row) for row in values)
        else:
            for first in range(0, len(values), ROWS_AT_ONCE):
                some = values[first : first + ROWS_AT_ONCE]
                yield into.sql(len(some)), tuple(chain.from_iterable(some))


def add_event(db: sqlite3.Connection, event: Event, run_id: str, time: float) -> None:
    """Append an event to a run's log, within the transaction that is open."""
    seq = last_event(db, run_id) + 1
    db.execute(INSERT_EVENTS.sql(1), _event(run_id, event.stamped(run_id, seq, time)))


def add_configuration(db: sqlite3.Connection, digest: str, configuration: JSON) -> None:
    """Store a configuration, unless it is there already, within the transaction that is open."""
    db.execute(INSERT_CONFIGURATIONS.sql(1), (digest, dumps_shared(db, configuration)))


def dumps_shared(db: sqlite3.Connection, value: Any) -> str:
    """Store the long texts of `value` once, within the transaction that is open, and return it as JSON with references.

    `encoding.load_shared` is its inverse.
    """
    texts: dict[str, str] = {}
    shared = dumps(share_texts(value, texts))
    for row in texts.items():
        db.execute(INSERT_TEXTS.sql(1), row)
    return shared


def _event(run_id: str, event: Event) -> Row:
    row = event_row(event)
    return (run_id, *row, checksum(*row))


def _rows_of(run_id: str, write: Write, texts: dict[str, str]) -> list[tuple[Rows | str, Row]]:
    match write:
        case RecordRollout(key=key, trajectory=trajectory):
            row = result_row(trajectory, texts)
            return [(RECORD_ROLLOUTS, (*row, checksum(*row), run_id, key.step, key.phase, key.position))]
        case OpenStep(step=step, plan=plan, rollouts=rollouts):
            row = (step, dumps(plan))
            return [(INSERT_STEPS, (run_id, *row, checksum(*row))), *_intents(run_id, rollouts)]
        case AddRollouts(rollouts=rollouts):
            return _intents(run_id, rollouts)
        case RecordProposal(step=step, index=index, intent=intent, program=program, reason=reason, usage=usage):
            number = None if program is None else program.number
            cost = None if usage.cost is None else float(usage.cost)
            tokens = (usage.calls, usage.prompt_tokens, usage.completion_tokens, cost)
            row = (step, index, dumps(intent), number, None if reason is None else storable_text(reason), *tokens)
            added = [] if program is None else _program(run_id, program, texts)
            proposal = (run_id, *row, checksum(*row))
            return [*added, (INSERT_PROPOSALS, proposal), *_intents(run_id, write.rollouts)]
        case AddProgram(program=program):
            return _program(run_id, program, texts)
        case CloseStep(step=step, result=result, progress=progress):
            row = (dumps(result), None if progress is None else dumps(progress))
            return [(CLOSE_STEP, (*row, checksum(*row), run_id, step))]
        case SetStatus(status=status, reason=reason, result=result):
            text = None if reason is None else storable_text(reason)
            return [(SET_STATUS, (status, text, None if result is None else dumps(result), run_id))]
        case ReserveCalls(calls=calls):
            return [(RESERVE_CALLS, (calls, run_id))]
        case RecordSpending(tokens=tokens, cost=cost, seconds=seconds):
            return [(RECORD_SPENDING, (tokens, cost, seconds, run_id))]
        case RecordGauges(gauges=gauges):
            return [(RECORD_GAUGES, (run_id, g.actor, g.mailbox, g.handled, g.state, g.running)) for g in gauges]


def _intents(run_id: str, rollouts: Sequence[Rollout]) -> list[tuple[Rows | str, Row]]:
    rows = [intent_row(rollout) for rollout in rollouts]
    return [(INSERT_ROLLOUTS, (run_id, *row, checksum(*row))) for row in rows]


def _program(run_id: str, program: Program, texts: dict[str, str]) -> list[tuple[Rows | str, Row]]:
    row = (
        program.number,
        program.digest,
        dumps(program.parents),
        program.strategy,
        program.step,
        dumps(program.provenance),
    )
    return [
        (INSERT_CONFIGURATIONS, (program.digest, dumps(share_texts(program.configuration, texts)))),
        (INSERT_PROGRAMS, (run_id, *row, checksum(*row))),
    ]
