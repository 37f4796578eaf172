"""What live programs choose from at one moment: the current version and, if there is one, a canary."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import dspy

from simba_actors.programs.entry_points import runs_async, sync_call

STUDENT = 0
"""The version number of the student itself, which runs until something is published."""


@dataclass(frozen=True, slots=True)
class Sides:
    """How a program is called; `acall` is None where it has no async side."""

    call: Callable[..., Any]
    acall: Callable[..., Any] | None

    @classmethod
    def of(cls, program: Any) -> Sides:
        return cls(sync_call(program, program, program.acall), program.acall if runs_async(program) else None)


@dataclass(frozen=True, slots=True)
class BoundVersion:
    """A program that is ready to run, the version that it is, and the canary at that time; 0 is none."""

    version: int
    program: dspy.Module
    sides: Sides
    canary: int = 0


@dataclass(frozen=True, slots=True)
class Lineup:
    """The `current` version, and a `canary` with its `share` of calls."""

    current: BoundVersion
    canary: BoundVersion | None = None
    share: float = 0.0

    def pick(self, key: str) -> BoundVersion:
        """The version for `key`: the same one as long as the canary is the same."""
        if self.canary is None or _place(self.canary.version, key) >= self.share:
            return self.current
        return self.canary


def _place(canary: int, key: str) -> float:
    """A number in [0, 1), evenly spread over keys, and drawn anew for each canary."""
    drawn = hashlib.blake2b(f"{canary}/{key}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(drawn) / 2**64
