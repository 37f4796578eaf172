"""Publications: the append-only history of the versions that a channel's live programs run.

The newest version decides what a channel serves. If it is a canary, a share of calls gets it, and the others get the
newest version before it that is not a canary. Otherwise all calls get the newest version.

All SQL of channels is here. Each function works on an open `sqlite3.Connection`, so that threads can use it, and
coroutines by `Reader.ask` and `Connection.transact`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

from simba_actors.errors import (
    PrunedVersionError,
    StoreDamagedError,
    UnknownChannelError,
    UnknownVersionError,
    VersionConflictError,
)
from simba_actors.events import ProgramPublished
from simba_actors.search.rollout import JSON
from simba_actors.store.connection import path_of, real_path
from simba_actors.store.encoding import PUBLICATION_COLUMNS, checksum, load_shared, storable_text
from simba_actors.store.statements import add_configuration, add_event

PublicationKind: TypeAlias = Literal["publish", "canary", "promote", "rollback"]

OPTIMIZER = "simba_actors"
"""Publisher of versions that an optimizer publishes automatically."""

_COLUMNS = f"{PUBLICATION_COLUMNS}, pruned"


@dataclass(frozen=True, slots=True)
class Publication:
    """One version of a channel."""

    channel: str
    """The channel's name."""
    version: int
    """The version's number in its channel, counted from 1."""
    kind: PublicationKind
    """How it was published: "publish", "canary", "promote" or "rollback"."""
    digest: str
    """`Configuration.digest` of what is published."""
    origin: int | None
    """The version that a "promote" made current or a "rollback" brought back; None for other kinds."""
    share: float | None
    """The share of all calls that a "canary" gets; None for other kinds."""
    run_id: str | None
    """The run that the configuration comes from; None if it is not from a run."""
    program: int | None
    """The program's number in that run's pool."""
    publisher: str
    """Who published it: "user@host", or the name that the caller passed."""
    reason: str
    """Why, for the history."""
    time: float
    """Time of publication, in seconds since the Unix epoch."""
    pruned: bool = False
    """Whether the configuration is gone."""

    @classmethod
    def of_row(cls, row: Sequence[Any]) -> Publication:
        *values, pruned = row
        return cls(*values, pruned=bool(pruned))

    def to_json(self) -> dict[str, JSON]:
        """Return the fields as plain JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Served:
    """Versions that a channel serves: `current`, except for the `share` of calls that goes to `canary`.

    Before the first publication both are None, and live programs run the student itself.
    """

    current: Publication | None = None
    """The version of all calls that don't go to the canary; None before the first publication."""
    canary: Publication | None = None
    """The version that is tried on a share of calls; None if there is none."""

    @property
    def version(self) -> int:
        """The channel's newest version; 0 before the first."""
        return max((publication.version for publication in self.publications), default=0)

    @property
    def publications(self) -> tuple[Publication, ...]:
        """`current` and `canary`, as far as there are any."""
        return tuple(publication for publication in (self.current, self.canary) if publication is not None)

    def to_json(self) -> dict[str, JSON]:
        """Return both publications as plain JSON."""
        return {
            "current": None if self.current is None else self.current.to_json(),
            "canary": None if self.canary is None else self.canary.to_json(),
        }


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def channel_names(db: sqlite3.Connection) -> list[str]:
    """Return the names of all channels that something was published to, in alphabetical order."""
    if not _has_channels(db):
        return []
    return [name for (name,) in db.execute("SELECT DISTINCT channel FROM publications ORDER BY channel")]


def served(db: sqlite3.Connection, channel: str) -> Served:
    """Return what the channel serves now; nothing if it does not exist."""
    if not _has_channels(db):
        return Served()
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM publications WHERE channel = :channel AND (version = "
        "(SELECT MAX(version) FROM publications WHERE channel = :channel) OR version = "
        "(SELECT MAX(version) FROM publications WHERE channel = :channel AND kind <> 'canary')) ORDER BY version",
        {"channel": channel},
    )
    publications = [_checked(Publication.of_row(row), db) for row in rows]
    current = next((publication for publication in publications if publication.kind != "canary"), None)
    canary = next((publication for publication in publications if publication.kind == "canary"), None)
    return Served(current, canary)


def served_by_channel(db: sqlite3.Connection) -> list[tuple[str, Served]]:
    """Return the name of each channel, and what it serves."""
    return [(name, served(db, name)) for name in channel_names(db)]


def _checked(publication: Publication, db: sqlite3.Connection) -> Publication:
    """Raise StoreDamagedError if a value is not of its column's type, which SQLite does not enforce."""
    version, share = cast("Any", publication.version), cast("Any", publication.share)
    if isinstance(version, int) and isinstance(share, int | float | None):
        return publication
    raise StoreDamagedError(
        f"{path_of(db)} is damaged: channel {publication.channel!r} has version={version!r:.80} with "
        f"share={share!r:.80}; publish again"
    )


def history(db: sqlite3.Connection, channel: str) -> list[Publication]:
    """Return all versions of the channel, the oldest first. Raise UnknownChannelError if it has none."""
    found = versions(db, channel)
    if not found:
        known = ", ".join(channel_names(db)) or "none"
        raise UnknownChannelError(
            f"{path_of(db)} has no channel {channel!r} (its channels: {known}): publish to it first"
        )
    return found


def versions(db: sqlite3.Connection, channel: str, after: int = 0) -> list[Publication]:
    """Return the channel's versions above `after`, the oldest first; none if it does not exist."""
    if not _has_channels(db):
        return []
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM publications WHERE channel = ? AND version > ? ORDER BY version", [channel, after]
    )
    return [Publication.of_row(row) for row in rows]


def version_of(db: sqlite3.Connection, channel: str, version: int) -> Publication:
    """Return one version. Raise UnknownChannelError or UnknownVersionError if there is no such version."""
    publications = history(db, channel)
    for publication in publications:
        if publication.version == version:
            return publication
    raise UnknownVersionError(f"channel {channel!r} has no version {version}; its newest is {publications[-1].version}")


def configuration_of(db: sqlite3.Connection, publication: Publication) -> dict[str, JSON]:
    """Return the configuration of a version, as JSON.

    Raises:
        PrunedVersionError: It was pruned.
        StoreDamagedError: What is stored can't be read.
    """
    row = db.execute("SELECT value FROM configurations WHERE digest = ?", [publication.digest]).fetchone()
    if publication.pruned:
        raise PrunedVersionError(
            f"version {publication.version} of channel {publication.channel!r} was pruned, so its configuration is "
            "gone: choose a later one"
        )
    try:
        (value,) = load_shared(db, row)
        return dict(value)
    except (TypeError, ValueError, sqlite3.DatabaseError) as error:
        raise unreadable(db, publication, error) from error


def configuration_of_version(db: sqlite3.Connection, channel: str, version: int) -> dict[str, JSON]:
    """Return the configuration of a version by its number. Raise as `version_of` and `configuration_of` do."""
    return configuration_of(db, version_of(db, channel, version))


def unreadable(db: sqlite3.Connection, publication: Publication, error: Exception) -> StoreDamagedError:
    """Return the error for a version whose configuration is missing or invalid."""
    return StoreDamagedError(
        f"{path_of(db)} is damaged: version {publication.version} of channel {publication.channel!r} can't be read "
        f"({error!r:.200}); publish it again"
    )


def _has_channels(db: sqlite3.Connection) -> bool:
    """Return whether the file has the tables: live programs read files of older versions, and don't migrate them."""
    return db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'publications'").fetchone() is not None


# ── writing, within the transaction that is open ─────────────────────────────────────────────────────────────────────


def append(db: sqlite3.Connection, publication: Publication, configuration: JSON) -> None:
    """Make `publication`, with its configuration, the newest version of its channel.

    Raises:
        VersionConflictError: The channel's newest version is not the one before it. Nothing was stored.
    """
    publications = versions(db, publication.channel)
    newest = publications[-1] if publications else None
    if (newest.version if newest is not None else 0) != publication.version - 1:
        raise _conflict(publication, newest)
    add_configuration(db, publication.digest, configuration)
    insert(db, publication)


def prune(db: sqlite3.Connection, channel: str, keep: int) -> int:
    """Drop the configurations of versions older than the newest `keep` and than what is served.

    Returns:
        How many versions were pruned.
    """
    now_served = served(db, channel)
    oldest_served = min((publication.version for publication in now_served.publications), default=1)
    until = min(now_served.version - keep, oldest_served - 1)
    pruned = db.execute(
        "UPDATE publications SET pruned = 1 WHERE channel = :channel AND pruned = 0 AND version <= :until "
        "AND digest NOT IN (SELECT digest FROM publications WHERE channel = :channel AND version > :until)",
        {"channel": channel, "until": until},
    )
    db.execute(
        "DELETE FROM configurations WHERE digest NOT IN (SELECT digest FROM programs) "
        "AND digest NOT IN (SELECT digest FROM publications WHERE pruned = 0)"
    )
    return pruned.rowcount


def insert(db: sqlite3.Connection, publication: Publication) -> None:
    """Make `publication`, whose configuration is stored, the newest version of its channel.

    The run of its program gets an event, and so does each run whose program it replaces.
    """
    replaced = () if publication.kind == "canary" else served(db, publication.channel).publications
    row = (
        publication.channel,
        publication.version,
        publication.kind,
        publication.digest,
        publication.origin,
        publication.share,
        publication.run_id,
        publication.program,
        storable_text(publication.publisher),
        storable_text(publication.reason),
        publication.time,
    )
    db.execute(
        f"INSERT INTO publications ({PUBLICATION_COLUMNS}, checksum) VALUES ({', '.join('?' * (len(row) + 1))})",
        [*row, checksum(*row)],
    )
    for run_id in dict.fromkeys(each.run_id for each in (publication, *replaced) if each.run_id is not None):
        event = ProgramPublished(
            publication.program,
            publication.channel,
            publication.version,
            publication.reason,
            publication.kind,
            source=publication.run_id,
        )
        add_event(db, event, run_id, publication.time)


def _conflict(wanted: Publication, newest: Publication | None) -> VersionConflictError:
    expected = wanted.version - 1
    if newest is None:
        return VersionConflictError(
            f"channel {wanted.channel!r} has no versions yet, so not {expected}: publish with expected=0", 0
        )
    return VersionConflictError(
        f"channel {wanted.channel!r} is at version {newest.version}, not {expected}: {newest.publisher} was first "
        f"({newest.kind}: {newest.reason}). Look at it, then publish with expected={newest.version}",
        newest.version,
    )


# ── publications within one process ──────────────────────────────────────────────────────────────────────────────────

_published: dict[str, int] = {}
"""Number of versions published by this process, by file. Of two threads that publish at the same time, one may not be
counted. That changes nothing: followers look after the other's count, and find both versions in the store."""


def notify_followers(store: Path) -> None:
    """Notify this process's live programs of a publication, so that they need not wait for the next poll."""
    name = str(real_path(store))
    _published[name] = _published.get(name, 0) + 1


def published_in_process(name: str) -> int:
    """Return how many versions this process has published to the store whose resolved path is `name`."""
    return _published.get(name, 0)
