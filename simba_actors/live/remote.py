"""Following a channel on another host. A background thread does the networking, and calls run in this process.

The thread gets a snapshot of the channel and watches for a change, over HTTP or gRPC: see `live.client`. A Watch brings
only a hint; the snapshot itself always comes from Get.

Requests never wait for the network, except that the very first call waits for up to `FIRST_SECONDS`.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import cast
from weakref import WeakValueDictionary, ref

from simba_actors.errors import StoreError
from simba_actors.live.background import WarnOnce
from simba_actors.live.client import described, open_client, retry_delay
from simba_actors.live.follower import Snapshot
from simba_actors.live.wire import Remote, etag_of, snapshot_from_json
from simba_actors.lm.secrets import Secrets
from simba_actors.programs import Configuration
from simba_actors.publishing.publications import Publication
from simba_actors.runtime.forks import survive_forks
from simba_actors.runtime.logs import get_logger

logger = get_logger(__name__)

FIRST_SECONDS = 2.0
"""Seconds that the first call of a process waits for the server, if nothing is cached."""

SETTLING_SECONDS = (0.1, 0.4)
"""Range of seconds from a new snapshot to the next watch, so that all of many followers get the snapshot first."""

LEAST_SECONDS = 0.1
"""Minimum seconds between two attempts, for servers and proxies that end each watch at once."""


class RemoteFollower:
    """Follows a channel on another host. It has the methods of `Follower`, and none of them uses the network."""

    def __init__(self, remote: Remote) -> None:
        self._poller = poller_of(remote)
        self._revision_read = self._snapshot_read = -1
        self._waited = False

    def is_due(self) -> bool:
        self._poller.keep_running()
        return self._revision_read != self._poller.revision

    def has_local_publication(self) -> bool:
        return False

    def is_stale(self) -> bool:
        return self._revision_read != self._poller.revision

    def read(self) -> Snapshot:
        """Return the newest snapshot. Raises StoreError if there is no newer one and the server can't be reached."""
        if not self._waited:
            self._waited = True
            self._poller.wait_for_first(FIRST_SECONDS)
        poller = self._poller
        revision, number, snapshot, error = poller.state()
        if snapshot is not None and number != self._snapshot_read:
            self._snapshot_read = number
            if error is None:
                self._revision_read = revision
            return snapshot
        self._revision_read = revision
        if error is not None:
            raise StoreError(error)
        if snapshot is None:
            raise StoreError(f"{poller.remote.url} has not answered yet and is asked again in the background")
        return snapshot

    def acknowledge(self) -> None:
        """Do nothing: a publication on another host is never waited for."""

    def earlier(self, version: int) -> Iterator[tuple[Publication, Configuration]]:
        """Yield nothing: the server sends what is served, not the history."""
        return iter(())

    def close(self) -> None:
        """Do nothing: the poller ends when no live program uses it."""

    def abandon(self) -> None:
        """Do nothing: the poller itself survives forks."""


class Poller:
    """Keeps the newest snapshot of one remote channel, in a thread that ends when nothing uses the poller any more.

    All live programs of a process that follow the same channel with the same token and cache share one.
    """

    def __init__(self, remote: Remote) -> None:
        self.remote = remote
        self._client = open_client(remote)
        self._secrets = Secrets()
        if remote.token is not None:
            self._secrets.add(remote.token)
        self.revision = 0
        """Changes whenever there is a new snapshot, a new error, or no error any more."""
        self._snapshot: Snapshot | None = None
        self._snapshot_number = 0
        self._error: str | None = None
        self._tag = ""
        self._is_new = False
        self._failures = 0
        self._warn_once = WarnOnce(logger)
        self._restart()
        self._load()
        survive_forks(self)

    def state(self) -> tuple[int, int, Snapshot | None, str | None]:
        """Return the revision, the snapshot's number, the snapshot and the error, which belong together."""
        with self._changed:
            return self.revision, self._snapshot_number, self._snapshot, self._error

    def keep_running(self) -> None:
        """Start the thread if there is none."""
        if self._thread is not None and self._thread.is_alive():
            return
        with self._changed:
            if self._thread is not None and self._thread.is_alive():
                return
            self._thread = threading.Thread(target=_run, args=(ref(self),), name="simba_actors remote", daemon=True)
            try:
                self._thread.start()
            except RuntimeError as error:
                self._thread = None
                self._warn_once(f"{self.remote.url} can't be followed, since the process can't start a thread: {error}")

    def wait_for_first(self, seconds: float) -> None:
        """Wait until the server has answered or failed for the first time. Return at once if something is cached."""
        with self._changed:
            if self._thread is not None:
                self._changed.wait_for(lambda: self._snapshot is not None or self._error is not None, seconds)

    def poll(self) -> float:
        """Get the snapshot and, unless it has changed, watch for a change. Return the seconds until the next call."""
        started = time.monotonic()
        try:
            if self._is_new:
                self._is_new = False
            elif self._get():
                self._is_new = True
                return random.uniform(*SETTLING_SECONDS)  # noqa: S311 - no secret
        except Exception as error:  # noqa: BLE001 - whatever a server and a network can do; the last snapshot serves
            self._fail(error)
            return self._delay(error)
        try:
            self._client.watch(self._tag)
        except Exception as error:  # noqa: BLE001 - as above; a proxy may cut each Watch, and the next Get says more
            return self._delay(error)
        self._failures = 0
        return max(0.0, started + LEAST_SECONDS - time.monotonic())

    def before_fork(self) -> None:
        """Do nothing: there is nothing to close."""

    def after_fork_in_parent(self) -> None:
        """Do nothing: nothing was closed."""

    def after_fork_in_child(self) -> None:
        """Let the next call start a thread: the child does not have the parent's."""
        self._restart()

    def _restart(self) -> None:
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def _get(self) -> bool:
        """Get what the server serves. Return whether it is new."""
        found = self._client.get(self._tag)
        if found is None:
            self._set(None, "")
            return False
        body, tag = found
        snapshot = snapshot_from_json(json.loads(body))
        tag = tag or etag_of(snapshot.served)  # Some proxies remove it.
        if snapshot.served.current is None:
            self._take_empty(snapshot, tag)
            return False
        is_first = self._snapshot is None
        if is_first:  # Before it serves, since the process may end after its first call.
            self._save(body)
        self._set(snapshot, tag)
        if not is_first:
            self._save(body)
        return True

    def _take_empty(self, snapshot: Snapshot, tag: str) -> None:
        """Take a snapshot of a channel without publications. One that had some keeps what it had, on disk too."""
        if self._snapshot is not None and self._snapshot.served.current is not None:
            raise StoreError(
                f"nothing is published to channel {self.remote.channel!r} any more: publish again, or start the server "
                "with the store that it had"
            )
        self._set(snapshot, tag)

    def _set(self, snapshot: Snapshot | None, tag: str) -> None:
        """Keep a new snapshot; None confirms the last one."""
        with self._changed:
            changed = self._error is not None
            if snapshot is not None:
                changed = changed or snapshot != self._snapshot
                if snapshot != self._snapshot:
                    self._snapshot_number += 1
                self._snapshot, self._tag = snapshot, tag
            self._error = None
            self.revision += changed
            self._changed.notify_all()

    def _fail(self, error: Exception) -> None:
        message = f"{self.remote.url} can't be followed: {described(error, self._secrets)}"
        with self._changed:
            self.revision += self._error is None
            self._error = message
            self._changed.notify_all()

    def _delay(self, error: Exception) -> float:
        """Return the seconds until the next attempt after a failed one."""
        self._failures += 1
        return retry_delay(error, self._failures)

    def _load(self) -> None:
        """Load the last known good snapshot from the cache. It is served until the server sends another."""
        file = self.remote.cache_file()
        if file is None:
            return
        try:
            stored = json.loads(file.read_bytes())
            body = cast("str", stored["body"])
            if hashlib.sha256(body.encode()).hexdigest() != stored["sha256"]:
                raise ValueError("its checksum is wrong")  # noqa: TRY301 - handled with all that can be wrong with it
            self._snapshot = snapshot_from_json(json.loads(body))
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
            logger.warning("%s is ignored (%s): it is written again when %s answers", file, error, self.remote.url)
            return
        self._snapshot_number += 1

    def _save(self, body: bytes) -> None:
        file = self.remote.cache_file()
        if file is None:
            return
        text = body.decode()
        content = json.dumps({"sha256": hashlib.sha256(text.encode()).hexdigest(), "body": text})
        partial = file.with_name(f"{file.name}.{os.getpid()}.{threading.get_ident()}")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(os.open(partial, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(file)
        except OSError as error:
            with suppress(OSError):
                partial.unlink()
            self._warn_once(f"{file} can't be written, so a cold start needs {self.remote.url}: {error}")


def _run(poller_ref: ref[Poller]) -> None:
    """Poll again and again, without keeping the poller alive in between."""
    while (poller := poller_ref()) is not None:
        seconds = poller.poll()
        del poller
        time.sleep(seconds)


_pollers: WeakValueDictionary[Remote, Poller] = WeakValueDictionary()


def poller_of(remote: Remote) -> Poller:
    """Return the poller of `remote` that this process shares."""
    return _pollers.get(remote) or _pollers.setdefault(remote, Poller(remote))
