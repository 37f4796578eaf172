"""What can be asked of a store about channels: what they serve, what they served before, how that was liked."""

from __future__ import annotations

from typing import Any

from simba_actors.errors import PrunedVersionError, UnknownChannelError, UnknownVersionError
from simba_actors.publishing.online_examples import OF_CHANNEL as EXAMPLES
from simba_actors.publishing.online_examples import OnlineExample
from simba_actors.publishing.publications import CONFIGURATION, OF_CHANNEL, SERVED, Publication, Served
from simba_actors.search.statistics.sequential_test import Sums
from simba_actors.search.trajectory import JSON
from simba_actors.store.encoding import loads
from simba_actors.store.reading import Reader

CANARY_SCORES = (
    "SELECT version, COUNT(*), TOTAL(score), TOTAL(score * score) FROM reports "
    "WHERE channel = ? AND canary = ? GROUP BY version"
)


class Channels(Reader):
    """A Reader of channels.

    async with await Channels.open("simba.db") as channels:
        for publication in await channels.history("support-bot"):
            print(publication.version, publication.kind, publication.publisher, publication.reason)
    """

    async def names(self) -> list[str]:
        """Of all channels that something was published to, in alphabetical order."""
        if not await self._has_channels():
            return []
        return [name for (name,) in await self._rows("SELECT DISTINCT channel FROM publications ORDER BY channel")]

    async def history(self, channel: str) -> list[Publication]:
        """All versions of the channel, the oldest first. Raises UnknownChannelError if it has none."""
        rows = await self._rows(OF_CHANNEL, [channel]) if await self._has_channels() else []
        if not rows:
            known = ", ".join(await self.names()) or "none"
            raise UnknownChannelError(
                f"{self.path} has no channel {channel!r} (its channels: {known}): publish to it first"
            )
        return [Publication.of_row(row) for row in rows]

    async def served(self, channel: str) -> Served:
        """What the channel serves now; nothing if it does not exist."""
        if not await self._has_channels():
            return Served()
        return Served.of_rows(await self._rows(SERVED, {"channel": channel}))

    async def version(self, channel: str, version: int) -> Publication:
        """Raises UnknownChannelError or UnknownVersionError if there is no such version."""
        history = await self.history(channel)
        for publication in history:
            if publication.version == version:
                return publication
        raise UnknownVersionError(f"channel {channel!r} has no version {version}; its newest is {history[-1].version}")

    async def configuration(self, channel: str, version: int) -> dict[str, JSON]:
        """The configuration of a version, as JSON.

        Raises:
            UnknownChannelError, UnknownVersionError: There is no such version.
            PrunedVersionError: It was pruned.
        """
        publication = await self.version(channel, version)
        rows: list[Any] = [] if publication.pruned else await self._rows(CONFIGURATION, [publication.digest])
        if not rows:
            raise PrunedVersionError(
                f"version {version} of channel {channel!r} was pruned: its configuration is gone; choose a later one"
            )
        return loads(rows[0][0])

    async def canary_scores(self, channel: str, canary: int) -> dict[int, Sums]:
        """The online scores of a canary and of what was served beside it, by version; 0 is the student itself."""
        rows = await self._rows(CANARY_SCORES, [channel, canary])
        return {version: Sums(count, total, squares) for version, count, total, squares in rows}

    async def examples(self, channel: str) -> list[OnlineExample]:
        """What live programs of the channel kept of their calls."""
        if not await self._has_channels():
            return []
        return [OnlineExample.of_row(row) for row in await self._rows(EXAMPLES, [channel])]

    async def _has_channels(self) -> bool:
        """Files of older versions of the package have none, and a reader does not migrate them."""
        return bool(await self._rows("SELECT 1 FROM sqlite_schema WHERE name = 'publications'"))
