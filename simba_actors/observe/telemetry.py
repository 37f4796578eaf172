"""Telemetry: spans and metrics of a run, if the application has set up OpenTelemetry."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias

from simba_actors.events import Event
from simba_actors.lm.governor import Governor
from simba_actors.search.buckets import Bucket
from simba_actors.search.rollout import Rollout, Trajectory
from simba_actors.store.records import ActorGauge

ReportResult: TypeAlias = Callable[[Trajectory], None]
"""Called with the trajectory of a rollout before its span ends."""


class Telemetry:
    """Interface through which a run reports to an observability system. This one reports nothing."""

    def on_events(self, events: Sequence[Event]) -> None:
        """Take note of events that were just stored."""

    def rollout(self, rollout: Rollout) -> AbstractContextManager[ReportResult]:
        """Return the span of a rollout."""
        return _NO_SPAN

    def strategy(self, name: str, step: int, program: int, buckets: Iterable[Bucket]) -> AbstractContextManager[None]:
        """Return the span of applying a strategy to `buckets`, which may make `program`."""
        return nullcontext()

    def lm_calls(self) -> AbstractContextManager[None]:
        """Return a context: tasks that are started in it have spans for their LM calls."""
        return nullcontext()

    def lm_answered(self, entry: Mapping[str, Any]) -> None:
        """Take note of an answered LM call, in its own context, from its entry in the LM's history."""

    def gauges(self, gauges: Iterable[ActorGauge]) -> None:
        """Take note of how busy the actors are."""

    def end(self, error: BaseException | None) -> None:
        """End the run's span: the run ended in this process, with `error` if it failed."""


def _ignore(trajectory: Trajectory) -> None:
    """Report nothing."""


def telemetry_of(run_id: str, governor: Governor) -> Telemetry:
    """Return OpenTelemetry's telemetry if the application has set a provider, otherwise one that records nothing.

    Secrets that `governor` knows are hidden in spans, and its endpoints are measured.
    """
    if "opentelemetry" not in sys.modules:  # An application that uses it has imported it. Importing takes 20 ms.
        return Telemetry()
    from simba_actors.observe.open_telemetry import OpenTelemetry, is_set_up

    return OpenTelemetry(run_id, governor) if is_set_up() else Telemetry()


_NO_SPAN = nullcontext(_ignore)
