"""Examples that live calls left: a bounded sample of what a service is asked, each with what came of it.

Of all inputs that were seen, those with the smallest digests are kept: a uniform sample of the distinct ones, whichever
process saw them in whatever order (bottom-k sampling; E. Cohen and H. Kaplan, "Summarizing Data Using Bottom-k
Sketches", PODC 2007). What is seen again takes the place of its older self.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import dspy
import orjson

from simba_actors.search.trajectory import JSON
from simba_actors.store.encoding import dumps, loads

ADD = (
    "INSERT INTO online_examples (channel, digest, version, score, time, example) VALUES (?, ?, ?, ?, ?, ?) "
    "ON CONFLICT DO UPDATE SET version = excluded.version, score = excluded.score, time = excluded.time, "
    "example = excluded.example"
)

BOUND = (
    "DELETE FROM online_examples WHERE channel = ? AND digest > "
    "(SELECT digest FROM online_examples WHERE channel = ? ORDER BY digest LIMIT 1 OFFSET ?)"
)
"""Lets go of all but those up to the place, counted from 0, of the last one to keep."""

OF_CHANNEL = "SELECT version, score, time, example FROM online_examples WHERE channel = ? ORDER BY digest"


@dataclass(frozen=True, slots=True)
class OnlineExample:
    """One call of a live program: what went in, what came out, each predictor's part in it, and its score.

    `trace` has the name, inputs and outputs of each predictor's call. `time` is in seconds since the Unix epoch.
    """

    inputs: Mapping[str, JSON]
    outputs: Mapping[str, JSON]
    trace: Sequence[JSON]
    version: int
    score: float
    time: float

    def to_example(self) -> dspy.Example:
        """A row for a trainset, with the outputs as labels."""
        return dspy.Example(**{**self.outputs, **self.inputs}).with_inputs(*self.inputs)

    @classmethod
    def of_row(cls, row: Sequence[Any]) -> OnlineExample:
        """From a row of `OF_CHANNEL`."""
        version, score, time, example = row
        stored = cast("dict[str, Any]", loads(example))
        return cls(stored["inputs"], stored["outputs"], stored["trace"], version, score, time)

    def adding(self, channel: str) -> tuple[Any, ...]:
        """The parameters of `ADD`."""
        example = {"inputs": dict(self.inputs), "outputs": dict(self.outputs), "trace": list(self.trace)}
        inputs = orjson.dumps(dict(self.inputs), option=orjson.OPT_SORT_KEYS)
        digest = hashlib.blake2b(inputs, digest_size=16).hexdigest()
        return channel, digest, self.version, self.score, self.time, dumps(example)
