"""Appending versions to a channel, and letting go of old ones, each in one transaction."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from simba_actors.errors import VersionConflictError
from simba_actors.publishing.publications import ADD_CONFIGURATION, ADD_EVENT, APPEND, OF_CHANNEL, Publication, Served
from simba_actors.search.trajectory import JSON
from simba_actors.store.connection import Connection
from simba_actors.store.encoding import dumps
from simba_actors.store.error_translation import told_of

_PRUNE = (
    "UPDATE publications SET pruned = 1 WHERE channel = :channel AND pruned = 0 AND version <= :until "
    "AND digest NOT IN (SELECT digest FROM publications WHERE channel = :channel AND version > :until)"
)
_DROP_CONFIGURATIONS = (
    "DELETE FROM configurations WHERE digest NOT IN (SELECT digest FROM programs) "
    "AND digest NOT IN (SELECT digest FROM publications WHERE pruned = 0)"
)


async def append(db: Connection, path: Path, publication: Publication, configuration: JSON) -> None:
    """Makes `publication`, whose configuration is given, the newest version of its channel.

    Raises:
        VersionConflictError: The channel's newest version is not the one before it. Nothing was stored.
        StoreError: The file could not be written. Nothing was stored.
    """
    with told_of(path):
        await db.transact(lambda db: _append(db, publication, configuration))


def _append(db: sqlite3.Connection, publication: Publication, configuration: JSON) -> None:
    db.execute(ADD_CONFIGURATION, [publication.digest, dumps(configuration)])
    if db.execute(APPEND, publication.appending()).rowcount != 1:
        raise _conflict(db, publication)
    event = publication.adding_event()
    if event is not None:
        db.execute(ADD_EVENT, event)


async def prune(db: Connection, path: Path, channel: str, served: Served, keep: int) -> int:
    """Lets go of the configurations of versions older than the newest `keep` and than what is served.

    Returns how many versions that were.
    """
    oldest_served = min((p.version for p in (served.current, served.canary) if p is not None), default=1)
    until = min(served.version - keep, oldest_served - 1)
    with told_of(path):
        return await db.transact(lambda db: _prune(db, channel, until))


def _prune(db: sqlite3.Connection, channel: str, until: int) -> int:
    pruned = db.execute(_PRUNE, {"channel": channel, "until": until})
    db.execute(_DROP_CONFIGURATIONS)
    return pruned.rowcount


def _conflict(db: sqlite3.Connection, wanted: Publication) -> VersionConflictError:
    rows = db.execute(OF_CHANNEL, [wanted.channel]).fetchall()
    expected = wanted.version - 1
    if not rows:
        return VersionConflictError(
            f"channel {wanted.channel!r} has no versions yet, so not {expected}: publish with expected=0", 0
        )
    newest = Publication.of_row(list(rows[-1]))
    return VersionConflictError(
        f"channel {wanted.channel!r} is at version {newest.version}, not {expected}: {newest.publisher} was first "
        f"({newest.kind}: {newest.reason}). Look at it, then publish with expected={newest.version}",
        newest.version,
    )
