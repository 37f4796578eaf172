"""Metrics: what a run counts itself, and how busy the endpoints are whenever somebody asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation

from simba_actors.lm.endpoint import Endpoint
from simba_actors.lm.endpoints_in_use import all_in_use
from simba_actors.search.trajectory import Trajectory
from simba_actors.store.records import ActorGauge

SCOPE = "simba_actors"


class Instruments:
    """The metrics of a run."""

    def __init__(self, common: dict[str, str]) -> None:
        meter = metrics.get_meter(SCOPE)
        self._common = common
        self._rollouts = meter.create_counter("simba_actors.rollouts", "{rollout}", "Rollouts that ended")
        self._scores = meter.create_histogram("simba_actors.score", "1", "Scores of rollouts")
        self._cost = meter.create_counter("simba_actors.cost", "USD", "What rollouts cost, where it is known")
        self._restarts = meter.create_counter("simba_actors.restarts", "{restart}", "Restarts of actors")
        self._mailbox = meter.create_gauge("simba_actors.mailbox", "{message}", "Messages in an actor's mailbox")
        self._in_flight = meter.create_up_down_counter(
            "simba_actors.rollouts.in_flight", "{rollout}", "Rollouts under way"
        )

    def rollout_ended(self, phase: str, trajectory: Trajectory) -> None:
        attributes = {**self._common, "phase": phase, "outcome": trajectory.outcome.value}
        self._rollouts.add(1, attributes)
        self._scores.record(float(trajectory.score), attributes)
        if trajectory.usage.cost:
            self._cost.add(trajectory.usage.cost, self._common)

    def in_flight(self, change: int) -> None:
        self._in_flight.add(change, self._common)

    def restarted(self, actor: str) -> None:
        self._restarts.add(1, {**self._common, "actor": actor})

    def mailbox(self, gauge: ActorGauge) -> None:
        self._mailbox.set(gauge.mailbox, {**self._common, "actor": gauge.actor})


@cache
def observe_endpoints(provider: MeterProvider) -> None:
    """Has `provider` ask how many LM calls each endpoint bears, serves and keeps waiting; once for the whole process.

    Endpoints are shared by all runs of an event loop, and by live programs, so this belongs to none of them.
    """
    meter = provider.get_meter(SCOPE)

    def gauge(name: str, value: Callable[[Endpoint], int], description: str) -> None:
        meter.create_observable_gauge(f"simba_actors.endpoint.{name}", [_observed(value)], "{call}", description)

    gauge("in_flight", lambda endpoint: endpoint.in_flight, "LM calls that an endpoint is serving")
    gauge("waiting", lambda endpoint: endpoint.waiting, "LM calls that wait for their turn at an endpoint")
    gauge("limit", lambda endpoint: endpoint.window.limit, "LM calls that an endpoint bears at a time, as found out")


def _observed(value: Callable[[Endpoint], int]) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def observe(options: CallbackOptions) -> Iterable[Observation]:
        sums = Counter[str]()
        for endpoint in all_in_use():
            sums[endpoint.name] += value(endpoint)
        return [Observation(total, {"endpoint": name}) for name, total in sums.items()]

    return observe
