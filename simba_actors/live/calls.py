"""Calls of a live program: which version each one runs, and the id that its score is reported by."""

from __future__ import annotations

import re
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from simba_actors.errors import PublicationError, UnknownCallError
from simba_actors.live.routing_table import BoundVersion, Lineup

CALL_ID = re.compile(r"([0-9]{1,18})\.([0-9]{1,18})\.([0-9A-Za-z]{1,64})")
"""Numbers of up to 18 digits fit into a column of the store."""


@dataclass(frozen=True, slots=True)
class CallId:
    """What a call's id says: the `version` that it ran, and the `canary` that there was then, 0 for none.

    It is not signed: whoever reports scores can make one up.
    """

    canary: int
    version: int
    token: str

    def __str__(self) -> str:
        return f"{self.canary}.{self.version}.{self.token}"

    @classmethod
    def parse(cls, text: object) -> CallId:
        """Raises UnknownCallError if that is no call's id."""
        said = CALL_ID.fullmatch(text) if isinstance(text, str) else None
        if said is None:
            raise UnknownCallError(
                f"{text!r:.80} is no call's id: give the id of a block, live.call(…) as call: call.id"
            )
        canary, version, token = said.groups()
        return cls(int(canary), int(version), token)


class LiveCall:
    """A block of runs that share a version. `id` and `version` are known once the first of them has begun."""

    def __init__(self, owner: object, key: str | None) -> None:
        """Use `LiveProgram.call`."""
        self.owner = owner
        self.key = key or secrets.token_hex(8)
        self._chosen: BoundVersion | None = None
        self._token = secrets.token_hex(8)

    @property
    def id(self) -> str:
        """What `report` takes, also in another process and after a restart."""
        return str(CallId(self._known().canary, self.version, self._token))

    @property
    def version(self) -> int:
        """The version that runs; 0 is the student itself."""
        return self._known().version

    def choose(self, lineup: Lineup) -> BoundVersion:
        """What the runs of this call run."""
        if self._chosen is None:
            self._chosen = lineup.pick(self.key)
        return self._chosen

    def _known(self) -> BoundVersion:
        if self._chosen is None:
            raise PublicationError("a call has no version and no id before its first run: run the live program in it")
        return self._chosen


_calls: ContextVar[tuple[LiveCall, ...]] = ContextVar("simba_actors_live_calls", default=())


@contextmanager
def call_block(owner: object, key: str | None) -> Generator[LiveCall]:
    """A block whose runs of the live program `owner` are one call."""
    call = LiveCall(owner, key)
    token = _calls.set((*_calls.get(), call))
    try:
        yield call
    finally:
        _calls.reset(token)


def id_of(owner: object, chosen: BoundVersion) -> CallId:
    """The id of a run of `owner`: that of the block that it is in, or one of its own."""
    for call in reversed(_calls.get()):
        if call.owner is owner:
            return CallId.parse(call.id)
    return CallId(chosen.canary, chosen.version, secrets.token_hex(8))


def choose(owner: object, lineup: Lineup) -> BoundVersion:
    """What a run of `owner` that begins here runs.

    In a block of `owner` that is the block's version. In a block of another live program its key counts, so that a user
    stays on one version of both.
    """
    around = _calls.get()
    for call in reversed(around):
        if call.owner is owner:
            return call.choose(lineup)
    if lineup.canary is None:
        return lineup.current
    return lineup.pick(around[-1].key if around else secrets.token_hex(8))
