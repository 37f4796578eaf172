"""Publications: the append-only history of what a channel's live programs run.

The newest row says all: where it is a canary, the channel serves it to a share of calls and the newest version before
it that is none to the others; otherwise it serves the newest row alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from simba_actors.events import Event, ProgramPublished, to_json
from simba_actors.programs import to_json_value
from simba_actors.store.encoding import dumps

PublicationKind: TypeAlias = Literal["publish", "canary", "promote", "rollback"]

OPTIMIZER = "simba_actors"
"""Who publishes where an optimizer does so on its own."""

COLUMNS = "channel, version, kind, digest, origin, share, run_id, program, publisher, reason, time, pruned"

APPEND = (
    f"INSERT INTO publications ({COLUMNS}) SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ? "
    "WHERE ? = (SELECT COALESCE(MAX(version), 0) FROM publications WHERE channel = ?)"
)
"""Compare and set in one statement: it changes no row where the channel is not at the expected version."""

OF_CHANNEL = f"SELECT {COLUMNS} FROM publications WHERE channel = ? ORDER BY version"

SERVED = (
    f"SELECT {COLUMNS} FROM publications WHERE channel = :channel AND (version = "
    "(SELECT MAX(version) FROM publications WHERE channel = :channel) OR version = "
    "(SELECT MAX(version) FROM publications WHERE channel = :channel AND kind <> 'canary')) ORDER BY version"
)
"""The one or two rows that say what a channel serves."""

CONFIGURATION = "SELECT value FROM configurations WHERE digest = ?"

ADD_EVENT = (
    "INSERT INTO events (run_id, seq, time, kind, data) "
    "SELECT ?, COALESCE(MAX(seq), 0) + 1, ?, ?, ? FROM events WHERE run_id = ?"
)

ADD_CONFIGURATION = "INSERT OR IGNORE INTO configurations VALUES (?, ?)"


@dataclass(frozen=True, slots=True)
class Publication:
    """A version of a channel.

    `origin` is the version that a "promote" made current or a "rollback" brought back; `share` is the part of all calls
    that a "canary" gets. `run_id` and `program` say where the configuration comes from, if from a run's pool. `time` is
    in seconds since the Unix epoch. Of a `pruned` version the configuration is gone.
    """

    channel: str
    version: int
    kind: PublicationKind
    digest: str
    origin: int | None
    share: float | None
    run_id: str | None
    program: int | None
    publisher: str
    reason: str
    time: float
    pruned: bool = False

    @classmethod
    def of_row(cls, row: Sequence[Any]) -> Publication:
        """From a row of `COLUMNS`."""
        values: dict[str, Any] = dict(zip(COLUMNS.split(", "), row, strict=True))
        values["pruned"] = bool(values["pruned"])
        return cls(**values)

    def appending(self) -> tuple[Any, ...]:
        """The parameters of `APPEND`."""
        return (
            self.channel,
            self.version,
            self.kind,
            self.digest,
            self.origin,
            self.share,
            self.run_id,
            self.program,
            to_json_value(self.publisher),
            to_json_value(self.reason),
            self.time,
            int(self.pruned),
            self.version - 1,
            self.channel,
        )

    def adding_event(self) -> tuple[Any, ...] | None:
        """The parameters of `ADD_EVENT`, for the log of the run that the program is from; None if it is from none."""
        if self.run_id is None or self.program is None:
            return None
        event = ProgramPublished(self.program, self.channel, self.version, self.reason, self.kind)
        return adding(event, self.run_id, self.time)


def adding(event: Event, run_id: str, time: float) -> tuple[Any, ...]:
    """The parameters of `ADD_EVENT`."""
    return run_id, time, type(event).__name__, dumps(to_json(event)), run_id


@dataclass(frozen=True, slots=True)
class Served:
    """What a channel serves: `current` to all calls, but for the `share` of them that a `canary` gets if there is one.

    Before the first publication both are None, and live programs run the student itself.
    """

    current: Publication | None = None
    canary: Publication | None = None

    @property
    def version(self) -> int:
        """The channel's newest version; 0 before the first."""
        return max((p.version for p in (self.current, self.canary) if p is not None), default=0)

    @classmethod
    def of_rows(cls, rows: Sequence[Sequence[Any]]) -> Served:
        """From the rows of `SERVED`."""
        publications = [Publication.of_row(row) for row in rows]
        current = next((p for p in publications if p.kind != "canary"), None)
        canary = next((p for p in publications if p.kind == "canary"), None)
        return cls(current, canary)
