"""Publishing programs of a run, without replacing what somebody else has published."""

from __future__ import annotations

from pathlib import Path

import dspy

from simba_actors.errors import ConfigError
from simba_actors.programs import Configuration, ConfigurationSpace
from simba_actors.publishing.canary import TESTER
from simba_actors.publishing.channel import Channel, Source, check_share
from simba_actors.publishing.publications import OPTIMIZER, Publication, Served, served
from simba_actors.search.rollout import STUDENT
from simba_actors.store import Reader


class RunPublisher:
    """Publishes programs of a run to one channel, and never replaces a version that it has not seen.

    The versions that existed at `look` count as seen. So do those that this publisher, the run itself and the canary
    test have published since. Any other version is a conflict.
    """

    def __init__(self, store: Path, channel: str, run_id: str, space: ConfigurationSpace) -> None:
        self._store = store
        self._channel = channel
        self._run_id = run_id
        self._space = space
        self._seen = 0

    async def look(self) -> Served:
        """Return what the channel serves now, and count it as seen."""
        async with await Reader.open(self._store) as reader:
            now_served = await reader.ask(served, self._channel)
        self._seen = now_served.version
        return now_served

    async def publish(
        self,
        program: int | dspy.Module | None,
        *,
        share: float | None,
        expected: int | None,
        reason: str,
        by: str | None,
    ) -> Publication:
        """Publish a program; see `Optimizer.publish`."""
        if share is not None:
            check_share(share)
        async with await Channel.open(self._store, self._channel) as channel:
            new = await self._new(program)
            expected = await self._expected(channel) if expected is None else expected
            if share is None:
                published = await channel.publish(new, expected=expected, reason=reason, by=by)
            else:
                if expected == 0:
                    if isinstance(new, Source):
                        await channel.program(new)  # Raises if it doesn't exist, before the student is published.
                    student = Source(self._run_id, STUDENT)
                    first = await channel.publish(student, expected=0, reason="the student itself", by=by)
                    expected = first.version
                published = await channel.start_canary(new, share=share, expected=expected, reason=reason, by=by)
        self._seen = published.version
        return published

    async def rollback(self, to: int | None, *, reason: str, by: str | None) -> Publication:
        """Bring back an earlier version; see `Optimizer.rollback`."""
        async with await Channel.open(self._store, self._channel) as channel:
            published = await channel.rollback(to, reason=reason, by=by)
        self._seen = published.version
        return published

    async def _expected(self, channel: Channel) -> int:
        if (await channel.served()).version <= self._seen:
            return self._seen
        unseen = [publication for publication in await channel.history() if publication.version > self._seen]
        return unseen[-1].version if all(self._is_automatic(publication) for publication in unseen) else self._seen

    def _is_automatic(self, publication: Publication) -> bool:
        own = publication.publisher == OPTIMIZER and publication.run_id == self._run_id
        return own or publication.publisher == TESTER

    async def _new(self, program: object) -> Configuration | Source:
        if isinstance(program, int) and not isinstance(program, bool):
            return Source(self._run_id, program)
        if program is not None and not isinstance(program, dspy.Module):
            raise ConfigError(f"program={program!r:.80}: must be its number in the pool, or a copy of the student")
        async with await Reader.open(self._store) as reader:
            if program is None:
                return Source(self._run_id, (await reader.run(self._run_id)).ranking()[0][0])
            configuration = self._space.extract(program)
            known = await reader.programs(self._run_id)
        same = (Source(self._run_id, entry.number) for entry in known if entry.digest == configuration.digest)
        return next(same, configuration)
