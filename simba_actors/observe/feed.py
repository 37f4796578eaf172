"""Following a run's events, and what is published to a channel."""

from __future__ import annotations

import asyncio
import inspect
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio

from simba_actors.actors import SHUTDOWN, Ref, spawn
from simba_actors.events import Event, EventCallback
from simba_actors.publishing.publications import Publication, versions
from simba_actors.runtime.exception_isolation import isolated
from simba_actors.runtime.logs import get_logger
from simba_actors.search.rollout import RolloutKey
from simba_actors.store import Reader
from simba_actors.store.queries import rollout_queries
from simba_actors.store.records import RolloutRecord

logger = get_logger(__name__)

ROLLOUTS_AT_ONCE = 100
"""Number of rollouts, with their trajectories, that are read at a time."""

POLL_SECONDS = 0.2
"""Seconds between checks of the file by a follower in another process."""

FAREWELL_SECONDS = 0.5
"""Seconds that listeners have to handle the last events when a run stops, and then to clean up."""


async def follow_events(store: str | Path, run_id: str, after: int = 0) -> AsyncGenerator[Event]:
    """Yield a run's events with a `seq` above `after`, read from the store: for other processes than the run's.

        async for event in follow_events("simba.db", "my-run"):
            print(event)

    Ends when the run does. Raises UnknownRunError if the store has no such run.
    """
    async with await Reader.open(store) as reader:
        seen = -1
        while True:
            seen = await _changed_version(reader, seen)
            over = (await reader.run(run_id)).status in ("finished", "failed")
            while events := await reader.events(run_id, after):
                for event in events:
                    yield event
                    after = event.seq
            if over:
                return


async def follow_channel(store: str | Path, channel: str, after: int = 0) -> AsyncGenerator[Publication]:
    """Yield a channel's versions above `after`, then new ones, including those that a canary's scores led to.

        async for version in follow_channel("simba.db", "support-bot"):
            print(version.version, version.kind, version.reason)

    Never ends. The channel need not exist yet. Raises StoreError if the file is not a store.
    """
    async with await Reader.open(store) as reader:
        seen = -1
        while True:
            seen = await _changed_version(reader, seen)
            for publication in await reader.ask(versions, channel, after):
                yield publication
                after = publication.version


async def _changed_version(reader: Reader, seen: int) -> int:
    """Wait until the version of the file's data is not `seen`, and return it."""
    while True:
        version = await reader.data_version()
        if version != seen:
            return version
        await anyio.sleep(POLL_SECONDS)


class EventFeed:
    """Wakes followers in the run's own process when events are stored.

    Followers read the store at their own pace, so a slow one delays no other.
    """

    def __init__(self) -> None:
        self._changed = asyncio.Event()
        self._over = False
        self._stopped = False
        self._first_seq: int | None = None

    def notify(self, events: Sequence[Event]) -> None:
        """Notify followers that `events` were stored."""
        if events:
            self._first_seq = self._first_seq or events[0].seq
            self.wake()

    def close(self) -> None:
        """Notify followers that no more events will come."""
        self._over = True
        self.wake()

    def stop(self) -> None:
        """Notify followers that nothing more will be published either."""
        self._stopped = True
        self.close()

    def begin(self, seq: int) -> None:
        """Let `follow_new` begin after the event with that seq, which another process stored."""
        self._first_seq = self._first_seq or seq + 1

    def wake(self) -> None:
        """Have followers look for new events."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def follow_new(self, store: Path, run_id: str) -> AsyncGenerator[Event]:
        """Yield the run's events since it was started in this process, until the feed is stopped."""
        while self._first_seq is None and not self._stopped:
            await self._changed.wait()
        if self._first_seq is not None:
            async with aclosing(self.follow(store, run_id, self._first_seq - 1, until_stopped=True)) as events:
                async for event in events:
                    yield event

    async def follow_rollouts(self, store: Path, run_id: str) -> AsyncGenerator[RolloutRecord]:
        """Yield the run's rollouts that have a result, then new ones, until the feed is closed and all were yielded."""
        seen: defaultdict[int, set[RolloutKey]] = defaultdict(set)
        async with await Reader.open(store) as reader:
            while True:
                changed, over = self._changed, self._over
                async with aclosing(new_rollouts(reader, run_id, seen)) as records:
                    async for record in records:
                        yield record
                if over:
                    return
                await changed.wait()

    async def follow(
        self, store: Path, run_id: str, after: int = 0, *, until_stopped: bool = False
    ) -> AsyncGenerator[Event]:
        """Yield the run's events with a `seq` above `after`, until the feed is closed and all were yielded.

        With `until_stopped`, also what is published after the run is over.
        """
        async with await Reader.open(store) as reader:
            while True:
                changed, over = self._changed, self._stopped if until_stopped else self._over
                while events := await reader.events(run_id, after):
                    for event in events:
                        yield event
                        after = event.seq
                if over:
                    return
                await changed.wait()


async def new_rollouts(
    reader: Reader, run_id: str, seen: defaultdict[int, set[RolloutKey]]
) -> AsyncGenerator[RolloutRecord]:
    """Yield the run's rollouts with a result whose keys are not in `seen`, by step, and add them."""
    known = {step: len(own) for step, own in seen.items()}
    found = await reader.ask(rollout_queries.keys_with_result, run_id, known)
    keys = [key for key in found if key not in seen[key.step]]
    for n in range(0, len(keys), ROLLOUTS_AT_ONCE):
        for record in await reader.ask(rollout_queries.rollouts_with_keys, run_id, keys[n : n + ROLLOUTS_AT_ONCE]):
            seen[record.rollout.key.step].add(record.rollout.key)
            yield record


class Listeners:
    """The listeners of one run: tasks that can neither slow it down nor harm it. They end when its events do."""

    def __init__(self) -> None:
        self._refs: dict[Ref, float] = {}

    def add(self, listen: Callable[..., Awaitable[None]], *args: Any, name: str, farewell: float) -> None:
        """Run `listen(*args)` alongside the run. Log an error that it raises; nothing else ends.

        `farewell` is the time in seconds that it may take for the last events when the run stops.
        """
        self._refs[spawn(listen, *args, name=name)] = farewell

    async def stop(self) -> None:
        """Let listeners handle the last events. Shut down those that take longer, then kill them."""
        await _wait(self._refs)
        for ref in self._refs:
            ref.exit(SHUTDOWN)
        await _wait(dict.fromkeys(self._refs, FAREWELL_SECONDS))
        for ref in self._refs:
            ref.kill()
        self._refs.clear()


async def _wait(limits: Mapping[Ref, float]) -> None:
    """Wait until each process has ended, or until its limit in seconds has passed."""
    now = anyio.current_time()
    for ref, limit in limits.items():
        with anyio.CancelScope(deadline=now + limit):
            await ref.wait()


async def call_back(callback: EventCallback, optimizer: object, events: AsyncGenerator[Event]) -> None:
    """Call `callback` with each of `events`, one at a time. Log an error, including SystemExit, and stop calling it.

    If the callback has a method `started`, that is called with `optimizer` first.
    """
    name = getattr(callback, "__qualname__", repr(callback))
    async with aclosing(events):
        try:
            await isolated(_call(getattr(callback, "started", _nothing), optimizer))
        except Exception:
            logger.exception("%s raised in `started` and will not be called", name)
            return
        async for event in events:
            try:
                await isolated(_call(callback, event))
            except Exception:
                logger.exception("%s raised for %r and will not be called again", name, event)
                return


async def _call(callback: Callable[[Any], Any], argument: object) -> None:
    answer = callback(argument)
    if inspect.isawaitable(answer):
        await answer


def _nothing(optimizer: object) -> None:
    """Do nothing: a function needs no optimizer."""
