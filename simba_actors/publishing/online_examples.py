"""Examples from live calls: a bounded sample of what a service is asked, each with its outputs and score.

Of all inputs, those with the smallest digests are kept: a uniform sample of the distinct ones, no matter which process
saw them in which order (bottom-k sampling; E. Cohen and H. Kaplan, "Summarizing Data Using Bottom-k Sketches", PODC
2007). A call with the same inputs replaces the older one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from simba_actors.search.rollout import JSON
from simba_actors.store.encoding import inputs_digest, load_shared
from simba_actors.store.statements import dumps_shared

if TYPE_CHECKING:
    import dspy


@dataclass(frozen=True, slots=True)
class OnlineExample:
    """One call of a live program, with its score."""

    inputs: Mapping[str, JSON]
    """The arguments of the call."""
    outputs: Mapping[str, JSON]
    """The fields of the prediction."""
    trace: Sequence[JSON]
    """The name, inputs and outputs of each predictor's call."""
    version: int
    """The version of the channel that the call ran; 0 is the student itself."""
    score: float
    """The score that the application reported for the call."""
    time: float
    """Time of the call, in seconds since the Unix epoch."""

    def to_example(self) -> dspy.Example:
        """Return the call as an example for a trainset, with the outputs as labels."""
        import dspy  # It takes seconds to import, and commands that only read don't need it.

        return dspy.Example(**{**self.outputs, **self.inputs}).with_inputs(*self.inputs)


def examples_of(db: sqlite3.Connection, channel: str) -> list[OnlineExample]:
    """Return the examples of a channel; none if it does not exist."""
    if db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'online_examples'").fetchone() is None:
        return []
    rows = db.execute(
        "SELECT example, version, score, time FROM online_examples WHERE channel = ? ORDER BY digest", [channel]
    ).fetchall()
    stored = load_shared(db, (row[0] for row in rows))
    return [
        OnlineExample(example["inputs"], example["outputs"], example["trace"], *rest)
        for example, (_, *rest) in zip(stored, rows, strict=True)
    ]


def keep_examples(db: sqlite3.Connection, channel: str, examples: Iterable[OnlineExample], most: int) -> None:
    """Add examples to a channel, which keeps `most` of them, within the transaction that is open."""
    db.executemany(
        "INSERT INTO online_examples (channel, digest, version, score, time, example) VALUES (?, ?, ?, ?, ?, ?) "
        "ON CONFLICT DO UPDATE SET version = excluded.version, score = excluded.score, time = excluded.time, "
        "example = excluded.example",
        [_row(db, channel, example) for example in examples],
    )
    db.execute(
        "DELETE FROM online_examples WHERE channel = :channel AND digest > "
        "(SELECT digest FROM online_examples WHERE channel = :channel ORDER BY digest LIMIT 1 OFFSET :last)",
        {"channel": channel, "last": most - 1},
    )


def _row(db: sqlite3.Connection, channel: str, example: OnlineExample) -> tuple[Any, ...]:
    stored = {"inputs": dict(example.inputs), "outputs": dict(example.outputs), "trace": list(example.trace)}
    digest = inputs_digest(example.inputs)
    return channel, digest, example.version, example.score, example.time, dumps_shared(db, stored)
