"""How busy the actors are, for people who look on."""

from __future__ import annotations

from collections.abc import Iterator

from simba_actors.actors import Registry
from simba_actors.actors.server_process import ServerProcess
from simba_actors.store.records import ActorGauge


def read_gauges(registry: Registry) -> tuple[ActorGauge, ...]:
    """One for each actor that is up."""
    return tuple(_gauges(registry))


def _gauges(registry: Registry) -> Iterator[ActorGauge]:
    names = registry.keys()
    for name in names:
        ref = registry.whereis(name)
        if ref is not None and isinstance(ref.target, ServerProcess):
            process, counts = ref.target, ref.target.statistics
            handled = counts.calls + counts.casts + counts.infos
            yield ActorGauge(str(name), process.mailbox.qsize(), handled, process.server.format_state())
