"""Following a channel on another host: HTTP in a background thread, evaluation here.

The server is `simba_actors.web.dashboard(store, channels=True)`, and speaks JSON:

* **Get** `GET {url}/api/channels/{channel}`: a snapshot of the channel, with an `ETag`. 304 if it has not changed.
* **Watch** `GET {url}/api/channels/{channel}/watch?etag=…`: server-sent events; one arrives when the snapshot has
  changed. It is a hint: the snapshot itself always comes from Get.
* **Report** `POST {url}/api/channels/{channel}/reports`: a batch of scores. A score of the same call counts once, so a
  batch can be sent again.

Requests never wait for the network, except that the very first call waits for up to `FIRST_SECONDS`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import http.client
import ipaddress
import json
import os
import random
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, urlsplit
from weakref import WeakValueDictionary, ref

from simba_actors.errors import ConfigError, StoreError
from simba_actors.live.follower import Snapshot
from simba_actors.live.recording import BackgroundQueue, KeptExample, MakeEntries, Score, WarnOnce
from simba_actors.lm.secrets import Secrets
from simba_actors.logs import get_logger
from simba_actors.programs import Configuration
from simba_actors.publishing.publications import Publication, Served
from simba_actors.runtime.forks import survive_forks
from simba_actors.runtime.threads import Threads
from simba_actors.search.trajectory import JSON

logger = get_logger(__name__)

FIRST_SECONDS = 2.0
"""Seconds that the first call of a process waits for the server, if nothing is cached."""

CONNECT_SECONDS = 5.0
"""Seconds without a byte from the server after which a request has failed."""

WATCH_SECONDS = 20.0
"""Seconds without a byte after which a watch has failed. The server ends watches earlier."""

RETRY_SECONDS = (0.25, 2.0)
"""Seconds before the second, and before any later attempt to reach the server. They double in between."""

LEAST_SECONDS = 0.1
"""Least seconds from one look to the next, for servers and proxies that end each watch at once."""

LARGEST_BYTES = 64 * 1024 * 1024
"""A snapshot that is larger is refused."""


def is_url(store: object) -> bool:
    """Return whether `store` is the address of a server rather than the path of a file."""
    return isinstance(store, str) and store.startswith(("http://", "https://"))


def snapshot_to_json(snapshot: Snapshot) -> dict[str, JSON]:
    """Return the body of a Get."""
    served = snapshot.served
    return {
        "current": served.current and cast("JSON", dataclasses.asdict(served.current)),
        "canary": served.canary and cast("JSON", dataclasses.asdict(served.canary)),
        "configurations": {
            str(version): cast("JSON", configuration.to_json())
            for version, configuration in snapshot.configurations.items()
        },
    }


def snapshot_from_json(body: Any) -> Snapshot:
    """Read the body of a Get. Unknown fields are ignored. Raises ValueError, TypeError or LookupError otherwise."""
    known = {field.name for field in dataclasses.fields(Publication)}

    def publication(name: str) -> Publication | None:
        fields: Any = body[name]
        if fields is None:
            return None
        if not isinstance(fields["version"], int) or not isinstance(fields["share"], int | float | None):
            raise TypeError(f"{name} has version={fields['version']!r:.80} and share={fields['share']!r:.80}")
        return Publication(**{k: v for k, v in fields.items() if k in known})

    configurations: Mapping[str, Any] = body["configurations"]
    return Snapshot(
        Served(publication("current"), publication("canary")),
        {int(version): Configuration.from_json(dict(values)) for version, values in configurations.items()},
    )


def etag_of(served: Served) -> str:
    """Return what tells one snapshot of a channel from another."""
    parts = [(p.version, p.kind, p.digest, p.share, p.pruned) for p in served.publications]
    return hashlib.blake2b(repr(parts).encode(), digest_size=12).hexdigest()


@dataclasses.dataclass(frozen=True, slots=True)
class Remote:
    """Address of a channel on another host, with the means to reach it.

    Raises:
        ConfigError: The address is not valid, or a token would travel in the clear.
    """

    url: str
    """The address of the server, such as `https://host/simba`."""

    channel: str
    """The channel's name."""

    token: str | None = dataclasses.field(default=None, repr=False)
    """The server's token, sent as `Authorization: Bearer …`."""

    cache: Path | None = None
    """A folder for the last known good snapshot; None keeps none on disk."""

    def __post_init__(self) -> None:
        address = urlsplit(self.url)
        if not address.hostname or address.username or address.password or address.query or address.fragment:
            raise ConfigError(
                f"store: the address of {address.hostname!r} must have a host, and no user, query or fragment; give a "
                "token as token=…"
            )
        if self.token is not None and address.scheme == "http" and not _is_loopback(address.hostname):
            raise ConfigError(f"store={self.url!r:.80}: a token must not travel over plain http; use https")

    def address(self, *parts: str) -> str:
        # As the dashboard's own pages have it: proxies undo percent-encoding of slashes and dots.
        name = quote(self.channel, safe="").replace("~", "%7E").replace(".", "%2E").replace("%", "~")
        return "/".join((self.url.rstrip("/"), "api/channels", name, *parts))

    def open(self, url: str, seconds: float, headers: Mapping[str, str], body: bytes | None = None) -> Any:
        """Send a request and return the response. Raises OSError or HTTPException."""
        request = urllib.request.Request(url, body, dict(headers))  # noqa: S310 - http or https, see is_url
        if self.token is not None:
            request.add_unredirected_header("Authorization", f"Bearer {self.token}")
        return _opener.open(request, timeout=seconds)

    def cache_file(self) -> Path | None:
        if self.cache is None:
            return None
        name = hashlib.blake2b(f"{self.url}\n{self.channel}".encode(), digest_size=16).hexdigest()
        return self.cache / f"{name}.json"


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would take the token to another host."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> None:
        """Follow no redirect, so that it is an error."""


_opener = urllib.request.build_opener(_NoRedirects)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class RemoteFollower:
    """Follows a channel on another host. It has the methods of `Follower`, and none of them uses the network."""

    def __init__(self, remote: Remote) -> None:
        self._poller = poller_of(remote)
        self._news_read = self._snapshot_read = -1
        self._waited = False

    def is_due(self) -> bool:
        self._poller.keep_running()
        return self._news_read != self._poller.news

    def has_local_publication(self) -> bool:
        return False

    def is_stale(self) -> bool:
        return self._news_read != self._poller.news

    def read(self) -> Snapshot:
        """Return the newest snapshot. Raises StoreError if there is no newer one and the server can't be reached."""
        if not self._waited:
            self._waited = True
            self._poller.wait_for_first(FIRST_SECONDS)
        poller = self._poller
        news, number, snapshot, error = poller.state()
        if snapshot is not None and number != self._snapshot_read:
            self._snapshot_read = number
            if error is None:
                self._news_read = news
            return snapshot
        self._news_read = news
        if error is not None:
            raise StoreError(error)
        if snapshot is None:
            raise StoreError(f"{poller.remote.url} has not answered yet and is asked again in the background")
        return snapshot

    def acknowledge(self) -> None:
        """Do nothing: a publication on another host is never waited for."""

    def earlier(self, version: int) -> Iterator[tuple[Publication, Configuration]]:
        """Yield nothing: the server tells what is served, not the history."""
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
        self.news = 0
        """Changes whenever there is a new snapshot, a new error, or no error any more."""
        self._snapshot: Snapshot | None = None
        self._snapshot_number = 0
        self._error: str | None = None
        self._etag = ""
        self._failures = 0
        self._warn_once = WarnOnce(logger)
        self._restart()
        self._load()
        survive_forks(self)

    def state(self) -> tuple[int, int, Snapshot | None, str | None]:
        """Return news, the snapshot's number, the snapshot and the error, which belong together."""
        with self._changed:
            return self.news, self._snapshot_number, self._snapshot, self._error

    def keep_running(self) -> None:
        """Start the thread if there is none."""
        if self._thread is not None and self._thread.is_alive():
            return
        with self._changed:
            if self._thread is not None and self._thread.is_alive():
                return
            self._thread = threading.Thread(target=_poll, args=(ref(self),), name="simba_actors remote", daemon=True)
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

    def look(self) -> float:
        """Get the snapshot if it has changed, then watch for a change. Return the seconds until the next look."""
        started = time.monotonic()
        try:
            self._get()
            self._failures = 0
            self._watch()
        except Exception as error:  # noqa: BLE001 - whatever a server and a network can do; the last snapshot serves
            self._fail(error)
            shortest, longest = RETRY_SECONDS
            self._failures += 1
            return min(longest, shortest * 2.0 ** min(self._failures - 1, 20)) * random.uniform(0.5, 1.0)  # noqa: S311
        return max(0.0, started + LEAST_SECONDS - time.monotonic())

    def before_fork(self) -> None:
        """Do nothing: there is nothing to close."""

    def after_fork_in_parent(self) -> None:
        """Do nothing: nothing was closed."""

    def after_fork_in_child(self) -> None:
        """Have the next call start a thread: the child does not have the parent's."""
        self._restart()

    def _restart(self) -> None:
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def _get(self) -> None:
        headers = {"If-None-Match": f'"{self._etag}"'} if self._etag else {}
        try:
            with self.remote.open(self.remote.address(), CONNECT_SECONDS, headers) as response:
                body = cast("bytes", response.read(LARGEST_BYTES + 1))
                etag = str(response.headers.get("ETag", "")).strip('"')
        except urllib.error.HTTPError as error:
            with error:
                if error.code != http.HTTPStatus.NOT_MODIFIED:
                    raise
            self._set(None, "")
            return
        if len(body) > LARGEST_BYTES:
            raise ValueError(f"the snapshot has more than {LARGEST_BYTES:,} bytes")
        snapshot = snapshot_from_json(json.loads(body))
        self._save(body)
        self._set(snapshot, etag)

    def _set(self, snapshot: Snapshot | None, etag: str) -> None:
        """Take a new snapshot; None confirms the last one."""
        with self._changed:
            changed = self._error is not None
            if snapshot is not None:
                changed = changed or snapshot != self._snapshot
                if snapshot != self._snapshot:
                    self._snapshot_number += 1
                self._snapshot, self._etag = snapshot, etag
            self._error = None
            self.news += changed
            self._changed.notify_all()

    def _fail(self, error: Exception) -> None:
        message = f"{self.remote.url} can't be followed: {Secrets().describe(error)}"
        with self._changed:
            self.news += self._error is None
            self._error = message
            self._changed.notify_all()

    def _watch(self) -> None:
        """Return when the server says that something has changed, or ends the watch."""
        url = f"{self.remote.address('watch')}?etag={quote(self._etag)}"
        with self.remote.open(url, WATCH_SECONDS, {"Accept": "text/event-stream"}) as response:
            while line := response.readline(4096):
                if line.startswith(b"data:"):
                    return

    def _load(self) -> None:
        """Take the last known good snapshot from the cache. It counts until the server says otherwise."""
        file = self.remote.cache_file()
        if file is None or not file.exists():
            return
        try:
            stored = json.loads(file.read_bytes())
            body = cast("str", stored["body"])
            if hashlib.sha256(body.encode()).hexdigest() != stored["sha256"]:
                raise ValueError("its checksum is wrong")  # noqa: TRY301 - handled with all that can be wrong with it
            self._snapshot = snapshot_from_json(json.loads(body))
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


def _poll(poller_ref: ref[Poller]) -> None:
    """Look again and again, without keeping the poller alive in between."""
    while (poller := poller_ref()) is not None:
        seconds = poller.look()
        del poller
        time.sleep(seconds)


_pollers: WeakValueDictionary[Remote, Poller] = WeakValueDictionary()


def poller_of(remote: Remote) -> Poller:
    """Return the poller of `remote` that this process shares."""
    return _pollers.get(remote) or _pollers.setdefault(remote, Poller(remote))


class RemoteWriter:
    """Reports scores to a server in batches. Has the methods of `StoreWriter`."""

    def __init__(self, remote: Remote, threads: Threads) -> None:
        self._remote = remote
        self._warn_once = WarnOnce(logger)
        self.queue: BackgroundQueue[MakeEntries] = BackgroundQueue(threads, self._report)

    def flush(self, deadline: float) -> bool:
        return self.queue.wait_until_empty(deadline)

    def _report(self, work: Sequence[MakeEntries]) -> None:
        scores = [
            {"call": str(entry.call), "score": entry.value}
            for make in work
            for entry in self._made(make)
            if isinstance(entry, Score) and entry.call.canary
        ]
        while scores and not self._sent(scores):
            self.queue.failed(RETRY_SECONDS[0])

    def _made(self, make: MakeEntries) -> Sequence[Score | KeptExample]:
        try:
            return make()
        except Exception as error:  # noqa: BLE001 - values of the user's program; the other calls count
            self._warn_once(f"a call was not reported to {self._remote.url}: {Secrets().describe(error)}")
            return ()

    def _sent(self, scores: Sequence[Mapping[str, Any]]) -> bool:
        """Return False if the same batch can be sent again."""
        body = json.dumps({"scores": scores}).encode()
        try:
            with self._remote.open(
                self._remote.address("reports"), CONNECT_SECONDS, {"Content-Type": "application/json"}, body
            ) as response:
                response.read()
        except urllib.error.HTTPError as error:
            with error:
                self._warn_once(f"{self._remote.url} refused scores of channel {self._remote.channel!r}: {error}")
                return error.code < http.HTTPStatus.INTERNAL_SERVER_ERROR
        except (OSError, http.client.HTTPException) as error:
            self._warn_once(f"scores can't be reported to {self._remote.url} and are sent again: {error}")
            return False
        self._warn_once.forget()
        return True


_writers: WeakValueDictionary[Remote, RemoteWriter] = WeakValueDictionary()


def remote_writer_of(remote: Remote, threads: Threads) -> RemoteWriter:
    """Return the writer to `remote` that this process shares."""
    return _writers.get(remote) or _writers.setdefault(remote, RemoteWriter(remote, threads))
