"""The means by which the actors of a run reach one another."""

from __future__ import annotations

from collections.abc import Sequence

from simba_actors.actors import Registry, Via
from simba_actors.errors import InfrastructureError
from simba_actors.events import Event
from simba_actors.store.records import Write
from simba_actors.team.messages import COORDINATOR, POOL_KEEPER, Commit, ReadPool, StoreReports, Unreachable
from simba_actors.team.pool_view import PoolView
from simba_actors.team.run_state import Pausing, cause_of


class Teammates:
    """Addresses of a run's actors, and the requests that most of them make of the PoolKeeper.

    An address stays valid when its actor is restarted.
    """

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self._reports: list[Event] = []

    def via(self, name: str) -> Via:
        """Return the address of the actor with that name."""
        return self.registry.via(name)

    async def commit(self, writes: Sequence[Write], events: Sequence[Event] = ()) -> None:
        """Store these in one transaction. Return once they are safe."""
        await self.via(POOL_KEEPER).call(Commit(tuple(writes), tuple(events)), timeout=None)

    async def commit_later(self, writes: Sequence[Write], events: Sequence[Event] = ()) -> None:
        """Store these in one transaction, before anything that is asked of the PoolKeeper later. Do not wait."""
        await self.via(POOL_KEEPER).cast(Commit(tuple(writes), tuple(events)))

    async def pool(self) -> PoolView:
        """Return the pool as it is now."""
        return await self.via(POOL_KEEPER).call(ReadPool(), timeout=None)

    def report_outage(self, error: InfrastructureError, epoch: int, pausing: Pausing, where: str) -> None:
        """Pause the run for an error of work that began in that pausing epoch, and say `where` it was met.

        An LM call may fail long after it was sent. If the run was resumed since, the error says nothing about now.
        """
        if epoch == pausing.epoch:
            reason, cause = f"{error} (met by {where})", cause_of(error)
            pausing.pause(reason, cause)
            self.via(COORDINATOR).cast_nowait(Unreachable(reason, cause, epoch))

    def report(self, event: Event) -> None:
        """Have an event stored that belongs to no commit, such as a crash or a repeated LM call.

        A PoolKeeper that is down finds it once it is up again.
        """
        self._reports.append(event)
        self.via(POOL_KEEPER).cast_nowait(StoreReports())

    def take_reports(self) -> list[Event]:
        """Return the reported events that are not stored yet, oldest first, for the caller to store."""
        taken, self._reports = self._reports, []
        return taken

    def put_back_reports(self, events: list[Event]) -> None:
        """Return events to the queue that could not be stored."""
        self._reports[:0] = events
