"""The SQL of each write, and of what other writers insert, too: events, configurations and shared texts."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeAlias

from simba_actors.events import Event
from simba_actors.search.rollout import JSON, Rollout
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
from simba_actors.store.queries.ledger_queries import last_event
from simba_actors.store.records import (
    AddProgram,
    AddRollouts,
    CloseStep,
    OpenStep,
    Program,
    RecordGauges,
    RecordProposal,
    RecordRollout,
    RecordSpending,
    ReserveCalls,
    SetStatus,
    Write,
)

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
