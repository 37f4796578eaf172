"""Reporting scores of calls to a server on another host. See `live.remote`."""

from __future__ import annotations

import http.client
from collections.abc import Sequence
from weakref import WeakValueDictionary

from simba_actors.live.background import BackgroundQueue, WarnOnce
from simba_actors.live.client import ReportRefusedError, described, open_client, retry_delay
from simba_actors.live.recording import KeptExample, MakeEntries, Score
from simba_actors.live.wire import Remote
from simba_actors.lm.secrets import Secrets
from simba_actors.runtime.logs import get_logger
from simba_actors.runtime.threads import Threads

logger = get_logger(__name__)


class RemoteWriter:
    """Reports scores to a server in batches. Has the methods of `StoreWriter`."""

    def __init__(self, remote: Remote, threads: Threads) -> None:
        self._remote = remote
        self._client = open_client(remote)
        self._secrets = Secrets()
        if remote.token is not None:
            self._secrets.add(remote.token)
        self._warn_once = WarnOnce(logger)
        self.queue: BackgroundQueue[MakeEntries] = BackgroundQueue(threads, self._report)

    def flush(self, deadline: float) -> bool:
        return self.queue.wait_until_empty(deadline)

    def _report(self, work: Sequence[MakeEntries]) -> None:
        scores = [
            (str(entry.call), entry.value)
            for make in work
            for entry in self._entries(make)
            if isinstance(entry, Score) and entry.call.canary
        ]
        failures = 0
        while scores and (error := self._send(scores)) is not None:
            failures += 1
            self.queue.failed(retry_delay(error, failures))

    def _entries(self, make: MakeEntries) -> Sequence[Score | KeptExample]:
        try:
            return make()
        except Exception as error:  # noqa: BLE001 - values of the user's program; the other calls count
            self._warn_once(f"a call was not reported to {self._remote.url}: {self._secrets.describe(error)}")
            return ()

    def _send(self, scores: Sequence[tuple[str, float]]) -> Exception | None:
        """Send a batch. Return the error if it can be sent again."""
        try:
            self._client.report(scores)
        except ReportRefusedError as error:
            self._warn_once(
                f"{self._remote.url} refused scores of channel {self._remote.channel!r}, which are lost: "
                f"{self._secrets.hide(str(error))}"
            )
            return None
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._warn_once(
                f"scores can't be reported to {self._remote.url} and are sent again: {described(error, self._secrets)}"
            )
            return error
        self._warn_once.forget()
        return None


_writers: WeakValueDictionary[Remote, RemoteWriter] = WeakValueDictionary()


def remote_writer_of(remote: Remote, threads: Threads) -> RemoteWriter:
    """Return the writer to `remote` that this process shares."""
    return _writers.get(remote) or _writers.setdefault(remote, RemoteWriter(remote, threads))
