"""Checks of a store: what must be true of it, even if the processes that wrote it were killed.

Scores of live calls and the totals of a run have no checksum. A score that was changed into another valid one is not
found, nor is a total that was raised: calls without a result count too.
"""

from __future__ import annotations

import hashlib
import math
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import orjson

from simba_actors.store.connection import connect, translate_errors
from simba_actors.store.encoding import (
    EVENT_COLUMNS,
    INTENT_COLUMNS,
    PROGRAM_COLUMNS,
    PROPOSAL_COLUMNS,
    PUBLICATION_COLUMNS,
    RESULT_COLUMNS,
    checksum,
    inputs_digest,
    load_shared,
    loads,
    references,
    text_digest,
)
from simba_actors.store.migrations import VERSION
from simba_actors.store.opening import BUSY_SECONDS, checked_path, recognize, uri_for_reading
from simba_actors.store.queries.usage_queries import ROLLOUT_SUMS

LARGEST_SCORE = 1e18
"""Largest score that is stored; see `evaluation.scoring`."""

CHECKED_COLUMNS = {
    "rollouts": (INTENT_COLUMNS, RESULT_COLUMNS),
    "steps": ("step, plan", "result, progress"),
    "proposals": (PROPOSAL_COLUMNS, ""),
    "programs": (PROGRAM_COLUMNS, ""),
    "events": (EVENT_COLUMNS, ""),
    "publications": (PUBLICATION_COLUMNS, ""),
}
"""Columns of each table that its checksums cover: those written first, and those of the result that is added later."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of one check."""

    what: str
    """What was checked, as a statement about the store."""
    ok: bool
    """Whether the statement is true."""
    detail: str = ""
    """What is wrong, and what to do about it; empty if nothing is."""


_COUNTS = {
    "every run can be read": (
        "SELECT COUNT(*) FROM runs WHERE status NOT IN ('running', 'waiting', 'paused', 'failed', 'finished') "
        "OR NOT json_valid(fingerprint) OR NOT json_valid(settings) OR NOT json_valid(COALESCE(result, 'null'))"
    ),
    "every row's run is there": (
        "SELECT COUNT(*) FROM (SELECT run_id FROM programs UNION SELECT run_id FROM steps UNION SELECT run_id FROM "
        "proposals UNION SELECT run_id FROM rollouts UNION SELECT run_id FROM events) "
        "WHERE run_id NOT IN (SELECT run_id FROM runs)"
    ),
    "every run's winner is that of its last event about it": (
        "SELECT COUNT(*) FROM runs JOIN events USING (run_id) WHERE result IS NOT NULL AND seq = (SELECT MAX(seq) "
        "FROM events e WHERE e.run_id = runs.run_id AND kind = 'RunFinished') AND json_array(data ->> 'program', "
        "data ->> 'score') <> json_array(result ->> '$.ranking[0][0]', result ->> '$.ranking[0][1]')"
    ),
    "every rollout's program is in the pool": (
        "SELECT COUNT(*) FROM rollouts r LEFT JOIN programs p ON p.run_id = r.run_id AND p.number = r.program "
        "WHERE p.number IS NULL"
    ),
    "every program's configuration is there": (
        "SELECT COUNT(*) FROM programs LEFT JOIN configurations USING (digest) WHERE value IS NULL"
    ),
    "every closed step has all its results": (
        "SELECT COUNT(*) FROM rollouts JOIN steps USING (run_id, step) "
        "WHERE steps.result IS NOT NULL AND rollouts.outcome IS NULL AND phase <> 'final' AND NOT EXISTS ("
        "SELECT * FROM events WHERE events.run_id = rollouts.run_id AND kind = 'ExampleSetAside' "
        "AND data ->> 'example' = rollouts.example AND data ->> 'split' = rollouts.split)"
    ),
    "every run's totals are no less than those of its results": (
        "SELECT COUNT(*) FROM runs JOIN (SELECT run_id, TOTAL(calls) AS calls, TOTAL(cost) AS cost, "
        "TOTAL(prompt_tokens) + TOTAL(completion_tokens) AS tokens FROM (SELECT run_id, calls, prompt_tokens, "
        "completion_tokens, cost FROM rollouts UNION ALL SELECT run_id, calls, prompt_tokens, completion_tokens, cost "
        "FROM proposals) GROUP BY run_id) USING (run_id) "
        # A fork has none until it is started, and runs older than checksums had none.
        "WHERE (calls_reserved, tokens_used, cost_used) <> (0, 0, 0) AND run_id NOT IN (SELECT run_id FROM rollouts "
        "WHERE checksum IS NULL) AND (typeof(calls_reserved) <> 'integer' OR typeof(tokens_used) <> 'integer' "
        "OR typeof(cost_used) <> 'real' OR calls_reserved < calls OR tokens_used < tokens "
        "OR cost_used < cost - 1e-9 * (1 + cost))"
    ),
    "every score of a live call is a score": (
        "SELECT COUNT(*) FROM (SELECT score FROM reports UNION ALL SELECT score FROM online_examples) "
        f"WHERE typeof(score) <> 'real' OR abs(score) > {LARGEST_SCORE:g}"
    ),
    "events are numbered without gaps": (
        "SELECT COUNT(*) FROM (SELECT run_id FROM events GROUP BY run_id HAVING MAX(seq) <> COUNT(*))"
    ),
}


async def check(store: str | Path) -> list[Finding]:
    """Return all checks, passed or not. Never change the file. Raise StoreError if it can't be read at all."""
    path = checked_path(store)
    with translate_errors(path):
        db = await connect(uri_for_reading(path), BUSY_SECONDS)  # Not Reader.open, which would migrate a copy.
        try:
            return await db.read(_findings, path)
        finally:
            await db.close()


def _findings(db: sqlite3.Connection, path: Path) -> list[Finding]:
    version = recognize(db, path)
    findings = [_integrity(db), _schema(version)]
    if version == VERSION:
        findings += [_found(what, partial(_count, sql), db) for what, sql in _COUNTS.items()]
        findings += [
            _found("tallies agree with the rollouts", _wrong_tallies, db),
            _found("every row is as it was written", _wrong_rows, db),
            _found("every shared text is there, as it was written", _wrong_texts, db),
            _found("every configuration is as it was written", _wrong_configurations, db),
            _found("every online example has the digest of its inputs", _wrong_examples, db),
        ]
    return findings


def _integrity(db: sqlite3.Connection) -> Finding:
    problems = [row[0] for row in db.execute("PRAGMA integrity_check(5)") if row[0] != "ok"]
    return Finding(
        "the file is sound", not problems, f"{'; '.join(problems)}: restore the file from a copy" if problems else ""
    )


def _schema(version: int) -> Finding:
    what = f"its schema is version {VERSION}"
    if version == VERSION:
        return Finding(what, ok=True)
    return Finding(what, ok=False, detail=f"it is version {version}: the next run or publication migrates it")


def _found(what: str, count_wrong: Callable[[sqlite3.Connection], int], db: sqlite3.Connection) -> Finding:
    try:
        wrong = count_wrong(db)
    except (sqlite3.DatabaseError, ValueError, TypeError, LookupError) as error:  # Damaged JSON, or none at all.
        return Finding(what, ok=False, detail=f"it can't be checked ({error}): restore the file from a copy")
    return Finding(what, wrong == 0, f"{wrong} are not: restore the file from a copy" if wrong else "")


def _count(sql: str, db: sqlite3.Connection) -> int:
    return db.execute(sql).fetchone()[0]


def _wrong_tallies(db: sqlite3.Connection) -> int:
    """Count tallies that are not the sums of their rollouts. Sums of floats depend on the order in the last digits."""
    key = "run_id, step, phase, program"
    kept = {row[:5]: row[5:] for row in db.execute("SELECT * FROM tallies")}
    summed = {
        row[:5]: row[5:]
        for row in db.execute(
            f"SELECT {key}, model ->> 0, COUNT(*), {ROLLOUT_SUMS} FROM rollouts GROUP BY {key}, model ->> 0"
        )
    }
    return sum(
        not all(math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9) for a, b in zip(kept[group], sums, strict=True))
        for group, sums in summed.items()
        if group in kept
    ) + len(kept.keys() ^ summed.keys())


def _wrong_rows(db: sqlite3.Connection) -> int:
    return sum(_wrong_rows_of(db, table) for table in CHECKED_COLUMNS)


def _wrong_rows_of(db: sqlite3.Connection, table: str) -> int:
    """Count rows that differ from their checksums. Rows of stores older than checksums have none."""
    first, later = CHECKED_COLUMNS[table]
    width = len(first.split(", "))
    columns = ", ".join(filter(None, (first, later)))
    wrong = 0
    for expected, *values in db.execute(f"SELECT checksum, {columns} FROM {table} WHERE checksum IS NOT NULL"):
        written, added = values[:width], values[width:]
        total = checksum(*written) + (checksum(*added) if added and added[0] is not None else 0)
        wrong += total != expected
    return wrong


def _wrong_texts(db: sqlite3.Connection) -> int:
    texts = {digest: text_digest(value) == digest for digest, value in db.execute("SELECT digest, value FROM texts")}
    missing = set(_references(db)) - texts.keys()
    return len(missing) + sum(not ok for ok in texts.values())


def _references(db: sqlite3.Connection) -> Iterator[str]:
    for column, table in (("trajectory", "rollouts"), ("value", "configurations"), ("example", "online_examples")):
        for (value,) in db.execute(f"SELECT {column} FROM {table} WHERE instr({column}, '\\u0000')"):
            yield from references(loads(value))


def _wrong_configurations(db: sqlite3.Connection) -> int:
    """Count configurations whose values don't have their digest (see `Configuration.digest`)."""
    wrong = 0
    for digest, value in db.execute("SELECT digest, value FROM configurations").fetchall():
        try:
            (values,) = load_shared(db, [value])
        except (sqlite3.DatabaseError, ValueError):
            wrong += 1
            continue
        wrong += hashlib.sha256(orjson.dumps(values, option=orjson.OPT_SORT_KEYS)).hexdigest() != digest
    return wrong


def _wrong_examples(db: sqlite3.Connection) -> int:
    """Count online examples whose inputs don't have their digest, by which equal inputs are known."""
    wrong = 0
    for digest, example in db.execute("SELECT digest, example FROM online_examples").fetchall():
        try:
            (stored,) = load_shared(db, [example])
            wrong += inputs_digest(stored["inputs"]) != digest
        except (sqlite3.DatabaseError, ValueError, TypeError, LookupError):
            wrong += 1
    return wrong
