"""What is written, as SQL: many rows to a statement."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeAlias

from simba_actors.events import Event, to_json
from simba_actors.programs import to_json_value
from simba_actors.store.encoding import INTENT_COLUMNS, RESULT_COLUMNS, dumps, intent_row, result_row
from simba_actors.store.records import (
    AddProgram,
    AddRollouts,
    CloseStep,
    OpenStep,
    Program,
    RecordGauges,
    RecordProposal,
    RecordRollout,
    ReserveCalls,
    SetStatus,
    Write,
)

Row: TypeAlias = tuple[Any, ...]

ROWS_AT_ONCE = 80
"""Of at most 12 columns: SQLite before 3.32 takes 999 values."""


@dataclass(frozen=True, slots=True)
class Rows:
    """SQL around the rows of a VALUES clause.

    Python's sqlite3 lets go of the interpreter and takes it back for each row of an `executemany`, and where the host
    keeps the interpreter busy it waits up to 5 ms each time. A statement takes all of its rows at once.
    """

    before: str
    columns: int
    after: str = ""

    def sql(self, count: int) -> str:
        row = f"({', '.join('?' * self.columns)})"
        return f"{self.before} VALUES {', '.join([row] * count)}{self.after}"


_RESULTS = RESULT_COLUMNS.split(", ")
_KEY = ("run_id", "step", "phase", "position")

INSERT_ROLLOUTS = Rows(f"INSERT OR IGNORE INTO rollouts (run_id, {INTENT_COLUMNS})", 8)
RECORD_ROLLOUTS = Rows(
    f"UPDATE rollouts SET {', '.join(f'{name} = new.column{n}' for n, name in enumerate(_RESULTS, 1))} FROM (",
    len(_RESULTS) + len(_KEY),
    ") AS new WHERE rollouts.outcome IS NULL AND "
    + " AND ".join(f"rollouts.{name} = new.column{n}" for n, name in enumerate(_KEY, len(_RESULTS) + 1)),
)
INSERT_CONFIGURATIONS = Rows("INSERT OR IGNORE INTO configurations", 2)
INSERT_PROGRAMS = Rows("INSERT OR IGNORE INTO programs", 7)
INSERT_PROPOSALS = Rows("INSERT OR IGNORE INTO proposals", 10)
INSERT_STEPS = Rows("INSERT OR IGNORE INTO steps (run_id, step, plan)", 3)
INSERT_EVENTS = Rows("INSERT INTO events", 5)
RECORD_GAUGES = Rows("INSERT OR REPLACE INTO gauges", 5)

CLOSE_STEP = "UPDATE steps SET result = ?, progress = ? WHERE run_id = ? AND step = ? AND result IS NULL"
SET_STATUS = "UPDATE runs SET status = ?, reason = ?, result = ? WHERE run_id = ?"
RESERVE_CALLS = "UPDATE runs SET calls_reserved = calls_reserved + ? WHERE run_id = ?"

REFERRED_TO = (INSERT_CONFIGURATIONS, INSERT_PROGRAMS, INSERT_STEPS, INSERT_PROPOSALS, INSERT_ROLLOUTS)
"""Written first, in this order, since what is written after them refers to them."""


def statements(run_id: str, writes: Sequence[Write], events: Sequence[Event]) -> Iterator[tuple[str, Row]]:
    """SQL with its values, in an order that satisfies references."""
    rows: defaultdict[Rows | str, list[Row]] = defaultdict(list)
    for into in REFERRED_TO:
        rows[into] = []
    for write in writes:
        for into, row in _rows_of(run_id, write):
            rows[into].append(row)
    for event in events:
        rows[INSERT_EVENTS].append((run_id, event.seq, event.time, type(event).__name__, dumps(to_json(event))))
    for into, values in rows.items():
        if isinstance(into, str):
            yield from ((into, row) for row in values)
        else:
            for first in range(0, len(values), ROWS_AT_ONCE):
                some = values[first : first + ROWS_AT_ONCE]
                yield into.sql(len(some)), tuple(chain.from_iterable(some))


def _rows_of(run_id: str, write: Write) -> list[tuple[Rows | str, Row]]:
    match write:
        case RecordRollout(key=key, trajectory=trajectory):
            return [(RECORD_ROLLOUTS, (*result_row(trajectory), run_id, key.step, key.phase, key.position))]
        case OpenStep(step=step, plan=plan, rollouts=rollouts):
            return [(INSERT_STEPS, (run_id, step, dumps(plan))), *_intents(run_id, rollouts)]
        case AddRollouts(rollouts=rollouts):
            return _intents(run_id, rollouts)
        case RecordProposal(step=step, slot=slot, intent=intent, program=program, reason=reason, usage=usage):
            number = None if program is None else program.number
            tokens = (usage.calls, usage.prompt_tokens, usage.completion_tokens, usage.cost)
            added = [] if program is None else _program(run_id, program)
            proposal = (run_id, step, slot, dumps(intent), number, to_json_value(reason), *tokens)
            return [*added, (INSERT_PROPOSALS, proposal), *_intents(run_id, write.rollouts)]
        case AddProgram(program=program):
            return _program(run_id, program)
        case CloseStep(step=step, result=result, progress=progress):
            return [(CLOSE_STEP, (dumps(result), None if progress is None else dumps(progress), run_id, step))]
        case SetStatus(status=status, reason=reason, result=result):
            return [(SET_STATUS, (status, to_json_value(reason), None if result is None else dumps(result), run_id))]
        case ReserveCalls(calls=calls):
            return [(RESERVE_CALLS, (calls, run_id))]
        case RecordGauges(gauges=gauges):
            return [(RECORD_GAUGES, (run_id, g.actor, g.mailbox, g.handled, g.state)) for g in gauges]


def _intents(run_id: str, rollouts: Sequence[Any]) -> list[tuple[Rows | str, Row]]:
    return [(INSERT_ROLLOUTS, (run_id, *intent_row(rollout))) for rollout in rollouts]


def _program(run_id: str, program: Program) -> list[tuple[Rows | str, Row]]:
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
        (INSERT_CONFIGURATIONS, (program.digest, dumps(program.configuration))),
        (INSERT_PROGRAMS, row),
    ]
