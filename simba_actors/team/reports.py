"""Events that happen beside the actors' work, such as a crash or an LM call made again, on their way to the store."""

from __future__ import annotations

from simba_actors.actors import Via
from simba_actors.events import Event
from simba_actors.team.messages import StoreReports


class Reports:
    """Keeps events until the PoolKeeper takes them, in whichever of its lives."""

    def __init__(self, pool_keeper: Via) -> None:
        self._pool_keeper = pool_keeper
        self._waiting: list[Event] = []

    def report(self, event: Event) -> None:
        """Has `event` stored soon. A PoolKeeper that is down finds it when it is up again."""
        self._waiting.append(event)
        self._pool_keeper.cast_nowait(StoreReports())

    def take(self) -> list[Event]:
        """Those that wait, the oldest first."""
        taken, self._waiting = self._waiting, []
        return taken

    def put_back(self, events: list[Event]) -> None:
        """They could not be stored yet."""
        self._waiting[:0] = events
