"""Decisions about a canary, from the scores of its calls and of those of the current version."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, TypeAlias

from simba_actors.events import CanaryJudged
from simba_actors.publishing.publications import Publication, insert, served
from simba_actors.search.statistics.sequential_test import Sums, compare
from simba_actors.store.statements import add_event

CanaryDecision: TypeAlias = Literal["promote", "rollback"]

ERROR = 0.05
"""Probability that a canary that is neither better nor worse is ever promoted or rolled back as such."""

MOST_SCORES = 10_000
"""Number of scores after which a canary is rolled back if no difference shows: a smaller one is not worth a change."""

TESTER = "canary test"
"""The publisher of the versions that the test's decisions publish."""


CanaryScore: TypeAlias = tuple[int, str, int, float, float]
"""A canary's version, a call's id, the version that the call ran, its score, and the time."""


def record_scores(db: sqlite3.Connection, channel: str, scores: Sequence[CanaryScore]) -> None:
    """Store scores of calls beside a canary, once for each call, within the transaction that is open."""
    db.executemany(
        "INSERT OR IGNORE INTO reports (channel, canary, call_id, version, score, time) VALUES (?, ?, ?, ?, ?, ?)",
        [(channel, *score) for score in scores],
    )


def canary_scores(db: sqlite3.Connection, channel: str, canary: int) -> dict[int, Sums]:
    """Return the scores of a canary and of the versions served beside it, by version; 0 is the student itself."""
    rows = db.execute(
        "SELECT version, COUNT(*), TOTAL(score), TOTAL(score * score) FROM reports "
        "WHERE channel = ? AND canary = ? GROUP BY version",
        [channel, canary],
    )
    return {version: Sums(count, total, squares) for version, count, total, squares in rows}


def decide(new: Sums, old: Sums) -> tuple[CanaryDecision, str] | None:
    """Return what to do with a canary that has the scores `new` beside `old`, and why; None while that is open."""
    comparison = compare(new, old, ERROR)
    scores = f"mean {new.mean:.3f} of {new.count} against {old.mean:.3f} of {old.count}: {comparison}"
    if comparison.is_better:
        return "promote", f"better, {scores}"
    if comparison.is_worse:
        return "rollback", f"worse, {scores}"
    if new.count + old.count >= MOST_SCORES:
        return "rollback", f"no better after {MOST_SCORES} scores, {scores}"
    return None


def settle(db: sqlite3.Connection, channel: str) -> Publication | None:
    """Promote or roll back the channel's canary if its scores say so, within the transaction that is open.

    Returns:
        The version that was published; None if there is no canary, or its scores leave it open.
    """
    now_served = served(db, channel)
    current, canary = now_served.current, now_served.canary
    if canary is None or current is None:
        return None
    scores = canary_scores(db, channel, canary.version)
    new, others = scores.pop(canary.version, Sums()), scores.values()
    old = Sums(sum(s.count for s in others), sum(s.total for s in others), sum(s.squares for s in others))
    decided = decide(new, old)
    if decided is None:
        return None
    kind, reason = decided
    origin = canary if kind == "promote" else current
    published = replace(
        origin,
        version=now_served.version + 1,
        kind=kind,
        origin=origin.version,
        share=None,
        publisher=TESTER,
        reason=f"canary {canary.version} is {reason}",
        time=time.time(),
    )
    insert(db, published)
    if canary.run_id is not None and canary.program is not None:
        judged = CanaryJudged(canary.program, channel, canary.version, kind, published.reason)
        add_event(db, judged, canary.run_id, published.time)
    return published
