"""Metrics: what a run counts itself, and how busy the endpoints are whenever somebody asks."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from weakref import WeakKeyDictionary, WeakSet

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation

from simba_actors.lm.endpoint import Endpoint
from simba_actors.lm.governor import Governor
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


_governors: WeakKeyDictionary[MeterProvider, WeakSet[Governor]] = WeakKeyDictionary()
_governors_lock = threading.Lock()
"""Exporters collect metrics in threads of their own."""


def observe_endpoints(provider: MeterProvider, governor: Governor) -> None:
    """Report how many LM calls each endpoint of `governor` accepts, is serving and keeps waiting.

    Runs share governors, and governors of different event loops call the same endpoints. So the gauges belong to the
    process: each shows the sum over all governors that are alive.
    """
    with _governors_lock:
        known = _governors.get(provider)
        governors = _governors.setdefault(provider, WeakSet[Governor]())
        governors.add(governor)
    if known is not None:
        return
    meter = provider.get_meter(SCOPE)

    def gauge(name: str, value: Callable[[Endpoint], int], description: str) -> None:
        def observe(options: CallbackOptions) -> Iterable[Observation]:
            return _sums(governors, value)

        meter.create_observable_gauge(f"simba_actors.endpoint.{name}", [observe], "{call}", description)

    gauge("in_flight", lambda endpoint: endpoint.in_flight, "LM calls that an endpoint is serving")
    gauge("waiting", lambda endpoint: endpoint.waiting, "LM calls waiting for a slot at an endpoint")
    gauge("limit", lambda endpoint: endpoint.window.limit, "Concurrent LM calls that an endpoint accepts, as measured")


def _sums(governors: WeakSet[Governor], value: Callable[[Endpoint], int]) -> Iterable[Observation]:
    with _governors_lock:
        alive = list(governors)
    sums = Counter[str]()
    for governor in alive:
        for endpoint in governor.endpoints():
            sums[endpoint.name] += value(endpoint)
    return [Observation(total, {"endpoint": name}) for name, total in sums.items()]
