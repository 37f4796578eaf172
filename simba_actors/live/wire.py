"""The wire format of channels on other hosts, and the address at which one is reached. See `live.remote`."""

from __future__ import annotations

import dataclasses
import hashlib
import ipaddress
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from simba_actors.errors import ConfigError
from simba_actors.live.follower import Snapshot
from simba_actors.programs import Configuration
from simba_actors.publishing.publications import Publication, Served
from simba_actors.search.rollout import JSON


def is_url(store: object) -> bool:
    """Return whether `store` is the address of a server rather than the path of a file."""
    return isinstance(store, str) and store.startswith(("http://", "https://"))


def snapshot_to_json(snapshot: Snapshot) -> dict[str, JSON]:
    """Return the body of a Get."""
    configurations: dict[str, JSON] = {
        str(version): configuration.to_json() for version, configuration in snapshot.configurations.items()
    }
    return {**snapshot.served.to_json(), "configurations": configurations}


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
