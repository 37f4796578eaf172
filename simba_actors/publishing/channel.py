"""Channels: choosing the configuration that the live programs of a channel run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from simba_actors.errors import ConfigError, PublicationError, UnknownVersionError
from simba_actors.programs import Configuration
from simba_actors.publishing.online_examples import OnlineExample, examples_of
from simba_actors.publishing.publications import (
    Publication,
    PublicationKind,
    Served,
    append,
    configuration_of_version,
    history,
    notify_followers,
    prune,
    served,
    version_of,
)
from simba_actors.store import Reader
from simba_actors.store.connection import Connection, translate_errors
from simba_actors.store.opening import checked_path, is_immutable, open_for_reading, open_for_writing
from simba_actors.store.ownership import this_user
from simba_actors.store.queries.pool_queries import program


@dataclass(frozen=True, slots=True)
class Source:
    """A program of a run in the same store, to publish: `channel.publish(Source("support-1", 7), reason="…")`."""

    run_id: str
    """The run's name in the store."""
    program: int
    """The program's number in the run's pool; 0 is the student."""


class Channel:
    """One channel of a store, whose live programs run what is published here.

        async with await Channel.open("simba.db", "support-bot") as channel:
            await channel.publish(configuration, expected=3, reason="shorter answers")
            print(await channel.diff(3, 4))
            await channel.rollback(reason="too short")

    Every change appends a version; versions are never changed or removed. `expected` is the newest version that the
    publisher knows of (0 before the first): if another publisher was faster, nothing is published. `by` names the
    publisher, by default the user at this machine.
    """

    def __init__(self, name: str, db: Connection, path: Path, clock: Callable[[], float]) -> None:
        """Use `Channel.open`."""
        self.name = name
        self._path = path
        self._db = db
        self._read = Reader(path, db)
        self._clock = clock

    @classmethod
    async def open(cls, store: str | Path, name: str, *, clock: Callable[[], float] = time.time) -> Channel:
        """Open the channel `name` of the store. Create the store if it does not exist.

        On a read-only volume, a store that nothing writes can be read, and methods that would change it raise
        StoreReadOnlyError.

        Raises:
            ConfigError: `name` is empty, longer than 100 characters, or can't be stored as text; or `store` is not a
                path.
            StoreError: The store's file can't be used.
        """
        check_channel(name)
        path = checked_path(store)
        with translate_errors(path):
            read_only = path.is_file() and is_immutable(path)
        db = await (open_for_reading if read_only else open_for_writing)(path)
        if read_only:
            await db.execute("PRAGMA query_only = ON")  # A store of an older version is read from a copy in memory.
        return cls(name, db, path, clock)

    async def close(self) -> None:
        """Close the store. Leaving an `async with` block does so, too."""
        await self._db.close()

    async def __aenter__(self) -> Channel:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def served(self) -> Served:
        """Return what live programs run now."""
        return await self._read.ask(served, self.name)

    async def history(self) -> list[Publication]:
        """Return all versions, the oldest first. Raise UnknownChannelError if nothing was ever published."""
        return await self._read.ask(history, self.name)

    async def configuration(self, version: int) -> Configuration:
        """Return the configuration of a version.

        Raises:
            UnknownChannelError, UnknownVersionError: There is no such version.
            PrunedVersionError: It was pruned.
        """
        return Configuration.from_json(await self._read.ask(configuration_of_version, self.name, version))

    async def program(self, source: Source) -> Configuration:
        """Return the configuration of a run's program.

        Raises:
            UnknownRunError, UnknownProgramError: There is no such program.
        """
        return Configuration.from_json((await self._read.ask(program, source.run_id, source.program)).configuration)

    async def examples(self) -> list[OnlineExample]:
        """Return the calls that live programs kept, in no particular order; see `LiveProgram(keep_examples=…)`."""
        return await self._read.ask(examples_of, self.name)

    async def diff(self, before: int, after: int) -> str:
        """Return what `after` changed in `before`, like `Configuration.diff`. Raises the errors of `configuration`."""
        return (await self.configuration(after)).diff(await self.configuration(before))

    async def publish(
        self, new: Configuration | Source, *, expected: int | None = None, reason: str, by: str | None = None
    ) -> Publication:
        """Make all calls run a configuration, or a program of a run.

        `expected` is the newest version that the publisher knows of. Without it, the publication follows whatever
        version is the newest when this is called.

        Raises:
            ConfigError: `new` is neither a Configuration nor a Source.
            VersionConflictError: The channel is not at version `expected`. Nothing was published.
            NotJSONError: A value of the configuration is not plain JSON.
            UnknownRunError, UnknownProgramError: The store has no such program.
        """
        known = (await self.served()).version if expected is None else expected
        return await self._append("publish", new, known, reason, by)

    async def start_canary(
        self,
        new: Configuration | Source,
        *,
        share: float,
        expected: int | None = None,
        reason: str,
        by: str | None = None,
    ) -> Publication:
        """Give a configuration to a `share` of calls, above 0 and below 1, until it is promoted or rolled back.

        `expected` is as in `publish`.

        Raises:
            ConfigError: `share` is out of range.
            PublicationError: There is nothing yet to compare it with.
            VersionConflictError, NotJSONError, UnknownRunError, UnknownProgramError: See `publish`.
        """
        check_share(share)
        known = await self.served()
        if known.current is None:
            raise PublicationError(
                f"channel {self.name!r} serves nothing that a canary could be compared with: publish what runs today "
                "first, ConfigurationSpace.from_module(student).extract(student) for the student itself"
            )
        return await self._append(
            "canary", new, known.version if expected is None else expected, reason, by, share=share
        )

    async def promote(self, *, reason: str, by: str | None = None) -> Publication:
        """Give the canary to all calls. Raise PublicationError if there is no canary."""
        canary = (await self.served()).canary
        if canary is None:
            raise PublicationError(f"channel {self.name!r} has no canary to promote: start one first")
        return await self._again("promote", canary, canary.version, reason, by)

    async def rollback(self, to: int | None = None, *, reason: str, by: str | None = None) -> Publication:
        """Bring back version `to`: by default the one served beside the canary if there is one, otherwise the one that
        was served before the current version.

        Raises:
            UnknownChannelError, UnknownVersionError: There is no such version, or none before the current one.
            PrunedVersionError: Its configuration is gone.
            VersionConflictError: Something else was published at the same moment.
        """
        history = await self.history()
        target = _served_before(self.name, history) if to is None else await self._read.ask(version_of, self.name, to)
        return await self._again("rollback", target, history[-1].version, reason, by)

    async def prune(self, keep: int = 20) -> int:
        """Drop the configurations of versions older than the newest `keep`. The versions stay in the history.

        Configurations of served versions are never dropped. Returns how many versions were pruned.

        Raises:
            ConfigError: `keep` is not a whole number of at least 1.
        """
        if isinstance(keep, bool) or not isinstance(cast("Any", keep), int) or keep < 1:
            raise ConfigError(f"keep={keep!r}: must be a whole number of at least 1")
        with translate_errors(self._path):
            return await self._db.transact(partial(prune, channel=self.name, keep=keep))

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
        if not isinstance(cast("Any", configuration), Configuration):
            raise ConfigError(
                f"{type(configuration).__name__} can't be published: pass Source(run_id, number), or the "
                "configuration, as in ConfigurationSpace.from_module(student).extract(program)"
            )
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
            publisher=by or this_user(),
            reason=reason,
            time=self._clock(),
        )
        with translate_errors(self._path):
            await self._db.transact(lambda db: append(db, publication, configuration.to_json()))
        notify_followers(self._path)
        return publication


def check_channel(name: object) -> None:
    """Raise ConfigError if `name` can't be the name of a channel."""
    if not isinstance(name, str) or not name.strip() or len(name) > 100 or _has_surrogates(name):
        raise ConfigError(f"channel={name!r:.120}: must be a string of 1 to 100 characters")


def check_share(share: object) -> None:
    """Raise ConfigError if `share` is not a share of calls."""
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < 1:
        raise ConfigError(f"share={share!r:.80}: a canary's share of calls must be a number above 0 and below 1")


def _has_surrogates(text: str) -> bool:
    """Return whether `text` has halves of surrogate pairs, which can't be stored."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def _served_before(channel: str, history: list[Publication]) -> Publication:
    newest = history[-1]
    settled = [publication for publication in history if publication.kind != "canary"]
    if newest.kind != "canary":
        settled = [p for p in settled if p.version < (newest.origin or newest.version) and p.digest != newest.digest]
    if not settled:
        raise UnknownVersionError(
            f"channel {channel!r} has nothing to go back to: what version {newest.version} runs is the first that it "
            "served. To bring back the student itself, publish program 0 of a run, or "
            "ConfigurationSpace.from_module(student).extract(student)"
        )
    return settled[-1]
