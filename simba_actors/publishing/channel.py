"""Publishing: which configuration the live programs of a channel run, and which they ran before."""

from __future__ import annotations

import getpass
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from simba_actors.errors import ConfigError, PublicationError, UnknownProgramError, UnknownVersionError
from simba_actors.programs import Configuration
from simba_actors.publishing.appending import append, prune
from simba_actors.publishing.channel_queries import Channels
from simba_actors.publishing.notifications import tell_followers
from simba_actors.publishing.online_examples import OnlineExample
from simba_actors.publishing.publications import Publication, PublicationKind, Served
from simba_actors.store.connection import Connection
from simba_actors.store.opening import checked_path, open_for_writing


@dataclass(frozen=True, slots=True)
class Source:
    """Where a configuration comes from: program number `program` of the pool of `run_id`."""

    run_id: str
    program: int


class Channel:
    """One channel of a store: its live programs run what is published here.

        async with await Channel.open("simba.db", "support-bot") as channel:
            await channel.publish(configuration, expected=3, reason="shorter answers")
            print(await channel.diff(3, 4))
            await channel.rollback(reason="too short")

    Every change appends a version; none is ever changed or taken away. `expected` is the newest version that the
    publisher knows of (0 before the first): where another publisher was faster, nothing is published. `by` is whoever
    publishes, by default the user at this machine.
    """

    def __init__(self, name: str, db: Connection, path: Path, clock: Callable[[], float]) -> None:
        """Use `Channel.open`."""
        self.name = name
        self._path = path
        self._db = db
        self._read = Channels(path, db)
        self._clock = clock

    @classmethod
    async def open(cls, store: str | Path, name: str, *, clock: Callable[[], float] = time.time) -> Channel:
        """The channel `name` of the store. Either is made if it does not exist.

        Raises:
            ConfigError: `name` is empty, longer than 100 characters, or no text that can be stored; or `store` is no
                path.
            StoreError: The store's file can't be used.
        """
        check_channel(name)
        path = checked_path(store)
        return cls(name, await open_for_writing(path), path, clock)

    async def close(self) -> None:
        await self._db.close()

    async def __aenter__(self) -> Channel:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def served(self) -> Served:
        """What live programs run now."""
        return await self._read.served(self.name)

    async def history(self) -> list[Publication]:
        """All versions, the oldest first. Raises UnknownChannelError if nothing was ever published."""
        return await self._read.history(self.name)

    async def configuration(self, version: int) -> Configuration:
        """The configuration of a version.

        Raises:
            UnknownChannelError, UnknownVersionError: There is no such version.
            PrunedVersionError: It was pruned.
        """
        return Configuration.from_json(dict(await self._read.configuration(self.name, version)))

    async def program(self, source: Source) -> Configuration:
        """The configuration of a run's program. Raises UnknownRunError or UnknownProgramError if there is none."""
        await self._read.run(source.run_id)
        programs = {program.number: program for program in await self._read.programs(source.run_id)}
        if source.program not in programs:
            raise UnknownProgramError(
                f"run {source.run_id!r} has no program {source.program}; its newest is {max(programs, default=0)}"
            )
        return Configuration.from_json(programs[source.program].configuration)

    async def examples(self) -> list[OnlineExample]:
        """What live programs kept of their calls, in no particular order; see `LiveProgram(keep_examples=…)`."""
        return await self._read.examples(self.name)

    async def diff(self, before: int, after: int) -> str:
        """What `after` changed in `before`, as `Configuration.diff` prints it. Raises as `configuration` does."""
        return (await self.configuration(after)).diff(await self.configuration(before))

    async def publish(
        self, new: Configuration | Source, *, expected: int, reason: str, by: str | None = None
    ) -> Publication:
        """Makes a configuration, or a program of a run, what all calls run.

        Raises:
            VersionConflictError: The channel is not at version `expected`. Nothing was published.
            NotJSONError: A value of the configuration is no plain JSON.
            UnknownRunError, UnknownProgramError: The store has no such program.
        """
        return await self._append("publish", new, expected, reason, by)

    async def start_canary(
        self, new: Configuration | Source, *, share: float, expected: int, reason: str, by: str | None = None
    ) -> Publication:
        """Gives a configuration to a `share` of calls, above 0 and below 1, until it is promoted or rolled back.

        Raises:
            ConfigError: `share` is out of range.
            PublicationError: There is nothing yet to compare it with.
            VersionConflictError, NotJSONError, UnknownRunError, UnknownProgramError: See `publish`.
        """
        check_share(share)
        if (await self.served()).current is None:
            raise PublicationError(
                f"channel {self.name!r} serves nothing that a canary could be compared with: publish what runs today "
                "first, ConfigurationSpace.from_module(student).extract(student) for the student itself"
            )
        return await self._append("canary", new, expected, reason, by, share=share)

    async def promote(self, *, reason: str, by: str | None = None) -> Publication:
        """Gives the canary to all calls. Raises PublicationError if there is no canary."""
        canary = (await self.served()).canary
        if canary is None:
            raise PublicationError(f"channel {self.name!r} has no canary to promote: start one first")
        return await self._again("promote", canary, canary.version, reason, by)

    async def rollback(self, to: int | None = None, *, reason: str, by: str | None = None) -> Publication:
        """Brings back version `to`: by default what is served beside the canary if there is one, otherwise what was
        served before the current version.

        Raises:
            UnknownChannelError, UnknownVersionError: There is no such version, or none before the current one.
            PrunedVersionError: Its configuration is gone.
            VersionConflictError: Something else was published at the same moment.
        """
        history = await self.history()
        target = _served_before(self.name, history) if to is None else await self._read.version(self.name, to)
        return await self._again("rollback", target, history[-1].version, reason, by)

    async def prune(self, keep: int = 20) -> int:
        """Lets go of the configurations of versions older than the newest `keep`, which stay in the history.

        What is served is never among them. Returns how many versions were pruned.

        Raises:
            ConfigError: `keep` is no whole number of at least 1.
        """
        if isinstance(keep, bool) or not isinstance(cast("Any", keep), int) or keep < 1:
            raise ConfigError(f"keep={keep!r}: must be a whole number of at least 1")
        return await prune(self._db, self._path, self.name, await self.served(), keep)

    async def _again(
        self, kind: PublicationKind, past: Publication, expected: int, reason: str, by: str | None
    ) -> Publication:
        configuration = await self.configuration(past.version)
        return await self._append(kind, configuration, expected, reason, by, origin=past)

    async def _append(
        self,
        kind: PublicationKind,
        new: Configuration | Source,
        expected: int,
        reason: str,
        by: str | None,
        *,
        origin: Publication | None = None,
        share: float | None = None,
    ) -> Publication:
        configuration = await self.program(new) if isinstance(new, Source) else new
        source = new if isinstance(new, Source) else origin
        publication = Publication(
            channel=self.name,
            version=expected + 1,
            kind=kind,
            digest=configuration.digest,
            origin=origin.version if origin is not None else None,
            share=share,
            run_id=source.run_id if source is not None else None,
            program=source.program if source is not None else None,
            publisher=by or _this_user(),
            reason=reason,
            time=self._clock(),
        )
        await append(self._db, self._path, publication, configuration.to_json())
        tell_followers(self._path)
        return publication


def check_channel(name: object) -> None:
    """Raises ConfigError if that is no name for a channel."""
    if not isinstance(name, str) or not name.strip() or len(name) > 100 or _has_surrogates(name):
        raise ConfigError(f"channel={name!r:.120}: a channel's name is text of 1 to 100 characters")


def check_share(share: object) -> None:
    """Raises ConfigError if that is no part of all calls."""
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < 1:
        raise ConfigError(f"share={share!r:.80}: a canary gets a part of all calls, above 0 and below 1")


def _has_surrogates(text: str) -> bool:
    """Whether `text` has halves of surrogate pairs, which can't be stored."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def _served_before(channel: str, history: list[Publication]) -> Publication:
    newest = history[-1]
    settled = [publication for publication in history if publication.kind != "canary"]
    if newest.kind != "canary":
        settled = [p for p in settled if p.version < (newest.origin or newest.version) and p.digest != newest.digest]
    if not settled:
        raise UnknownVersionError(
            f"channel {channel!r} has nothing to go back to: version {newest.version} is the first that it served"
        )
    return settled[-1]


def _this_user() -> str:
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # Containers run users that are in no list; which of the two depends on the version.
        name = f"uid {os.getuid()}"
    return f"{name}@{socket.gethostname()}"
