"""Calls of live programs: which version each one runs, and the id by which its score is reported."""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

from simba_actors.errors import PublicationError, UnknownCallError
from simba_actors.live.router import BoundVersion, RoutingTable

CALL_ID = re.compile(r"([0-9]{1,18})\.([0-9]{1,18})\.([0-9A-Za-z]{1,64})")
"""Canary, version and token. Numbers of up to 18 digits fit into a column of the store."""


@dataclass(frozen=True, slots=True)
class CallId:
    """The id of a call. It is not signed: anyone who can report scores can make one up."""

    canary: int
    """The version number of the canary when the call began; 0 if there was none."""

    version: int
    """The version that the call ran."""

    token: str
    """Random, so that ids are unique."""

    def __str__(self) -> str:
        return f"{self.canary}.{self.version}.{self.token}"

    @classmethod
    def parse(cls, text: object) -> CallId:
        """Parse what `str` made of an id. Raises UnknownCallError if `text` is not the id of a call."""
        match = CALL_ID.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise UnknownCallError(
                f"{text!r:.80} is not the id of a call: pass call.id of a block `with live.call() as call:`"
            )
        canary, version, token = match.groups()
        return cls(int(canary), int(version), token)


class Runnable(Protocol):
    """The methods of a live program that a LiveCall uses."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...
    async def acall(self, *args: Any, **kwargs: Any) -> Any: ...


class LiveCall:
    """One call from the user's point of view: runs of a live program that share a version and a score.

        with live.call(key=user_id) as call:
            prediction = await live.acall(question="…")
        live.report(1.0, call.id)

    The block sets a context variable, so it covers runs in the same task or thread. If the block is opened in one
    thread and the program runs in another, as with sync dependencies of FastAPI, pass the call along and run the
    program through it: `call(question="…")` or `await call.acall(question="…")`.
    """

    def __init__(self, live: Runnable, router: object, key: str | None) -> None:
        """Use `LiveProgram.call`."""
        self.router = router
        self.key = key or secrets.token_hex(8)
        self._live = live
        self._picked: BoundVersion | None = None
        self._token = secrets.token_hex(8)

    @property
    def id(self) -> str:
        """The id to report a score with, from any process and also after a restart.

        Raises PublicationError before the first run.
        """
        return str(CallId(self._known().canary, self.version, self._token))

    @property
    def version(self) -> int:
        """The version that runs; 0 is the student as it is. Raises PublicationError before the first run."""
        return self._known().version

    def __enter__(self) -> LiveCall:
        _open_calls.set((*_open_calls.get(), self))
        return self

    def __exit__(self, *_: object) -> None:
        # The block may end in another context than it began in, where the variable's token would be invalid.
        _open_calls.set(tuple(call for call in _open_calls.get() if call is not self))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the live program as part of this call, whatever thread or context this is."""
        with self:
            return self._live(*args, **kwargs)

    async def acall(self, *args: Any, **kwargs: Any) -> Any:
        """Run the live program as part of this call, whatever task or context this is."""
        with self:
            return await self._live.acall(*args, **kwargs)

    def pick(self, table: RoutingTable) -> BoundVersion:
        """Return the version of all runs of this call, which the first run picks from `table`."""
        if self._picked is None:
            self._picked = table.pick(self.key)
        return self._picked

    def _known(self) -> BoundVersion:
        if self._picked is None:
            raise PublicationError(
                "a call has no version and no id before its first run: run the live program in its block first, or "
                "through the call, as in call(question=…), if it runs in another thread than the block"
            )
        return self._picked


_open_calls: ContextVar[tuple[LiveCall, ...]] = ContextVar("simba_actors_live_calls", default=())
"""The open blocks of this task or thread, the innermost last."""


def pick(router: object, table: RoutingTable) -> BoundVersion:
    """Return the version for a run that begins here.

    In a block of the same live program, the block decides. In a block of another live program, the block's key decides,
    so that a user stays on one version of both.
    """
    calls = _open_calls.get()
    for call in reversed(calls):
        if call.router is router:
            return call.pick(table)
    if table.canary is None:
        return table.current
    return table.pick(calls[-1].key if calls else secrets.token_hex(8))


def call_id(router: object, version: BoundVersion) -> CallId:
    """Return the id of a run that ran `version`: that of the block around it, or one of its own."""
    for call in reversed(_open_calls.get()):
        if call.router is router:
            return CallId.parse(call.id)
    return CallId(version.canary, version.version, secrets.token_hex(8))
