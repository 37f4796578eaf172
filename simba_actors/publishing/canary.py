"""The verdict on a canary, from the scores that its calls and those beside it were given."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal, TypeAlias

from simba_actors.events import CanaryJudged
from simba_actors.publishing.publications import ADD_EVENT, APPEND, SERVED, Publication, Served, adding
from simba_actors.search.statistics.sequential_test import Sums, compare

Verdict: TypeAlias = Literal["promote", "rollback"]

ERROR = 0.05
"""The chance that a canary is ever promoted or rolled back for a difference that is none, however long it runs."""

MOST_SCORES = 10_000
"""After so many, a difference that has not shown is too small to change a service for."""

TESTER = "canary test"
"""Who publishes what comes of it."""

_SUMS = (
    "SELECT version = canary, COUNT(*), TOTAL(score), TOTAL(score * score) FROM reports "
    "WHERE channel = ? AND canary = ? GROUP BY 1"
)


def verdict(new: Sums, old: Sums) -> tuple[Verdict, str] | None:
    """What is to become of a canary with the scores `new`, beside one with `old`, and why; None while that is open."""
    comparison = compare(new, old, ERROR)
    scores = f"mean {new.mean:.3f} of {new.count} against {old.mean:.3f} of {old.count}: {comparison}"
    if comparison.is_better:
        return "promote", f"better, {scores}"
    if comparison.is_worse:
        return "rollback", f"worse, {scores}"
    if new.count + old.count >= MOST_SCORES:
        return "rollback", f"no better after {MOST_SCORES} scores, {scores}"
    return None


def settle(db: sqlite3.Connection, channel: str, clock: Callable[[], float] = time.time) -> Publication | None:
    """Promotes or rolls back the channel's canary if its scores say so, within the transaction that is open.

    Returns the version that was published; None if there is no canary, or no verdict.
    """
    served = Served.of_rows(db.execute(SERVED, {"channel": channel}).fetchall())
    if served.canary is None or served.current is None:
        return None
    sums: Mapping[int, Sums] = {
        is_canary: Sums(*row) for is_canary, *row in db.execute(_SUMS, [channel, served.canary.version])
    }
    decided = verdict(sums.get(1, Sums()), sums.get(0, Sums()))
    if decided is None:
        return None
    kind, reason = decided
    origin = served.canary if kind == "promote" else served.current
    published = replace(
        origin,
        version=served.version + 1,
        kind=kind,
        origin=origin.version,
        share=None,
        publisher=TESTER,
        reason=f"canary {served.canary.version} is {reason}",
        time=clock(),
    )
    db.execute(APPEND, published.appending())
    db.executemany(ADD_EVENT, _events(published, served.canary, kind))
    return published


def _events(published: Publication, canary: Publication, verdict: Verdict) -> Iterator[tuple[Any, ...]]:
    """For the logs of the runs that the programs are from: of what is served now, and of the canary."""
    told = published.adding_event()
    if told is not None:
        yield told
    if canary.run_id is not None and canary.program is not None:
        judged = CanaryJudged(canary.program, canary.channel, canary.version, verdict, published.reason)
        yield adding(judged, canary.run_id, published.time)
