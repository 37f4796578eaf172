"""Telemetry: spans and metrics of a run, for whoever has set OpenTelemetry up."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias

from simba_actors.events import Event
from simba_actors.lm.governor import Governor
from simba_actors.search.buckets import Bucket
from simba_actors.search.plan import Rollout
from simba_actors.search.trajectory import Trajectory
from simba_actors.store.records import ActorGauge

Ended: TypeAlias = Callable[[Trajectory], None]
"""Tells a rollout's span what it left."""


class Telemetry:
    """What a run tells of itself while it works. This one keeps it to itself."""

    def heard(self, events: Sequence[Event]) -> None:
        """Events that were just stored."""

    def rollout(self, rollout: Rollout) -> AbstractContextManager[Ended]:
        """Around a rollout."""
        return nullcontext(_forget)

    def strategy(self, name: str, step: int, program: int, buckets: Iterable[Bucket]) -> AbstractContextManager[None]:
        """Around the application of a strategy to `buckets`, which may make `program`."""
        return nullcontext()

    def lm_calls(self) -> AbstractContextManager[None]:
        """Around the start of a run: LM calls of tasks that are started within it are told of."""
        return nullcontext()

    def lm_answered(self, entry: Mapping[str, Any]) -> None:
        """An LM call was answered. Called in the call's own context, with its entry in the LM's history."""

    def gauges(self, gauges: Iterable[ActorGauge]) -> None:
        """How busy the actors are."""

    def end(self, error: BaseException | None) -> None:
        """The run ended in this process."""


def _forget(trajectory: Trajectory) -> None:
    """Nobody listens."""


def telemetry_of(run_id: str, governor: Governor) -> Telemetry:
    """Return OpenTelemetry's telemetry if the application has set a provider, otherwise one that records nothing.

    Secrets that `governor` knows are hidden in spans, and its endpoints are measured.
    """
    if "opentelemetry" not in sys.modules:  # Who has set it up has imported it; doing so takes 20 ms.
        return Telemetry()
    from simba_actors.observe.open_telemetry import OpenTelemetry, is_set_up

    return OpenTelemetry(run_id, governor) if is_set_up() else Telemetry()
