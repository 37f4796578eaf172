"""The state that decides whether a run may start LM work: pauses, store trouble and failure.

A run has one status at a time:

| status   | meaning                                        | what ends it                                            |
| -------- | ---------------------------------------------- | ------------------------------------------------------- |
| running  | LM work starts as planned                      | any of the below                                        |
| waiting  | no LM call has been answered for a while;      | an answer: running. The end of the grace period, or an  |
|          | calls are tried again with growing intervals   | error that waiting can't fix: paused                    |
| paused   | by the user                                    | `resume()`: running                                     |
| paused   | for a stop that another process asked for;     | a request to resume it, or started again: running       |
|          | no standby takes the run over                  |                                                         |
| paused   | for access: a refused key, account or model    | `resume()`, or the time `resume_after`: running         |
| paused   | for an outage: the grace period is over        | `resume()`, or the time `resume_after`: running         |
| paused   | for failures: the student failed on every      | `resume()`, or the time `resume_after`: running         |
|          | example of the first step for one reason       |                                                         |
| failed   | the metric or `stop_when` raised               | started again: running                                  |
| finished | the run has its result                         | started again with a larger budget: running             |

Each change is one event and one line in the log, a WARNING if the user has to act.

While the store can't be written, a running run counts as paused. It continues as soon as writing works again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from simba_actors.errors import InfrastructureError, LMAccessError, SimbaError, UnknownUsageError
from simba_actors.events import PauseCause
from simba_actors.store.ownership import Holding, steady_clock

SILENCE_SECONDS = 10.0
"""Seconds without an answered LM call, while some fail, after which the run counts as waiting."""

BY_REQUEST: tuple[PauseCause, ...] = ("user", "stop")
"""Causes of pauses that somebody asked for."""


@dataclass(slots=True)
class Claim:
    """This process's claim to the run. It outlives the actors, so that a restarted one does not repeat anything."""

    is_made: bool = False
    """Whether the store names this process as the owner."""
    is_announced: bool = False
    """Whether the event `RunStarted` or `RunResumed` was stored."""
    expired: Holding | None = None
    """The last owner's holding, if this process has watched it until its lease was over."""


class Lease:
    """Time for which this process can rely on owning the run.

    A process that was suspended for longer may have lost the run to another one, and must find out before it does any
    more LM work.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = steady_clock) -> None:
        self._seconds, self._clock = seconds, clock
        self._until = clock() + seconds

    @property
    def is_over(self) -> bool:
        """Whether another process may own the run by now."""
        return self._clock() >= self._until

    def renew(self) -> None:
        """Note that the store still names this process as the owner."""
        self._until = self._clock() + self._seconds


class Pausing:
    """Whether the run is paused, and why.

    Pauses are numbered by epochs: a failure that belongs to an epoch before the last resume no longer counts.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self.reason: str | None = None
        """Why the run is paused; None while it is not."""
        self.cause: PauseCause | None = None
        """The kind of reason."""
        self.epoch = 0
        """Number of times that the run was resumed."""

    @property
    def is_by_request(self) -> bool:
        """Whether somebody asked for the pause. It ends only when somebody asks for that, too."""
        return self.cause in BY_REQUEST

    def pause(self, reason: str, cause: PauseCause) -> None:
        """Stop LM work from starting. The first reason counts until the run is resumed, unless somebody asks later."""
        if self.reason is None or cause in BY_REQUEST:
            self.reason, self.cause = reason, cause
        self._changed()

    def resume(self) -> None:
        """Allow LM work again."""
        self.reason = self.cause = None
        self.epoch += 1
        self._changed()


class StoreTrouble:
    """Why results cannot be stored at the moment. No LM work starts meanwhile, since it could be lost."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self.reason: str | None = None
        """The problem with the file; None while it can be written."""

    def set(self, reason: str | None) -> None:
        """Note a failed commit, or with None that commits work again."""
        self.reason = reason
        self._changed()


class Failure:
    """The error that ends the run for this process."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self.error: SimbaError | None = None
        """The first error that was set."""

    def set(self, error: SimbaError) -> None:
        """Stop LM work from starting; the first error counts."""
        self.error = self.error or error
        self._changed()


class Gate:
    """Open while new LM work may start: no pause, no trouble with the store, no failure."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._open.set()
        self._changes = asyncio.Event()
        self.pausing = Pausing(self._update)
        self.store_trouble = StoreTrouble(self._update)
        self.failure = Failure(self._update)

    @property
    def is_open(self) -> bool:
        """Whether work may start now."""
        return self._open.is_set()

    async def passed(self) -> None:
        """Wait until the gate is open."""
        await self._open.wait()

    def changed(self) -> Coroutine[Any, Any, Any]:
        """Return a coroutine that waits until the pause, the trouble or the failure changes after this call."""
        return self._changes.wait()

    def _update(self) -> None:
        if any(why is not None for why in (self.pausing.reason, self.store_trouble.reason, self.failure.error)):
            self._open.clear()
        else:
            self._open.set()
        self._changes.set()
        self._changes = asyncio.Event()


class Silence:
    """Notices when LM calls fail and none is answered for a while, and when one is answered again.

    Answers may arrive in any thread.
    """

    def __init__(self, begun: Callable[[str], None], ended: Callable[[], None]) -> None:
        self._begun, self._ended = begun, ended
        self._loop = asyncio.get_running_loop()
        self._last_answer = time.monotonic()
        self._lasts = False

    def failed(self, reason: str) -> None:
        """Note a failed call that will be tried again."""
        if not self._lasts and time.monotonic() - self._last_answer >= SILENCE_SECONDS:
            self._lasts = True
            self._begun(reason)

    def answered(self) -> None:
        """Note an answer."""
        self._last_answer = time.monotonic()
        if self._lasts and not self._loop.is_closed():
            self._lasts = False
            self._loop.call_soon_threadsafe(self._ended)


def cause_of(error: InfrastructureError) -> PauseCause:
    """Return whether a run is paused for access or for an outage."""
    return "access" if isinstance(error, LMAccessError | UnknownUsageError) else "outage"
