"""The wire format of channels on other hosts, and the address at which one is reached. See `live.remote`."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from simba_actors.errors import ConfigError
from simba_actors.live.follower import Snapshot
from simba_actors.programs import Configuration
from simba_actors.publishing.publications import Publication, Served
from simba_actors.search.rollout import JSON
from simba_actors.transport.security import TLS, check_token, is_loopback


def is_url(store: object) -> bool:
    """Return whether `store` is the address of a server rather than the path of a file."""
    return isinstance(store, str) and store.startswith(("http://", "https://", "grpc://", "grpcs://"))


def snapshot_to_json(snapshot: Snapshot) -> dict[str, JSON]:
    """Return the body of a Get."""
    configurations: dict[str, JSON] = {
        str(version): configuration.to_json() for version, configuration in snapshot.configurations.items()
    }
    return {**snapshot.served.to_json(), "configurations": configurations}


def snapshot_from_json(body: Any) -> Snapshot:
    """Read the body of a Get. Ignores unknown fields. Raises ValueError, TypeError or LookupError if it is invalid."""
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
    """Return a tag that changes with what is served."""
    parts = [(p.version, p.kind, p.digest, p.share, p.pruned) for p in served.publications]
    return hashlib.blake2b(repr(parts).encode(), digest_size=12).hexdigest()


@dataclasses.dataclass(frozen=True, slots=True)
class Remote:
    """Address of a channel on another host, with the means to reach it.

    Raises:
        ConfigError: The address or the token is not valid, the token would travel in the clear, or `tls` is given
            without TLS.
    """

    url: str
    """The address of the server, such as `https://host/simba` or `grpc://host:7001`."""

    channel: str
    """The channel's name."""

    token: str | None = dataclasses.field(default=None, repr=False)
    """The server's token, sent as `Authorization: Bearer …`."""

    tls: TLS | None = None
    """Certificates for `https://` and `grpcs://`; None means those of the system."""

    cache: Path | None = None
    """A folder for the last known good snapshot; None keeps none on disk."""

    def __post_init__(self) -> None:
        check_token(self.token)
        try:
            address = urlsplit(self.url)
            port = address.port
        except ValueError as error:
            raise ConfigError(f"store={self.url!r:.80} is not an address: {error}") from None
        if not address.hostname or address.username or address.password or address.query or address.fragment:
            raise ConfigError(
                f"store: the address of {address.hostname!r} must have a host, and no user, query or fragment; give a "
                "token as token=…"
            )
        if address.scheme.startswith("grpc") and (port is None or address.path.strip("/")):
            raise ConfigError(
                f"store={self.url!r:.80}: must have a port and no path, as in {address.scheme}://{address.hostname}:7001"
            )
        is_secure = address.scheme in ("https", "grpcs")
        if self.token is not None and not is_secure and not is_loopback(address.hostname):
            raise ConfigError(
                f"store={self.url!r:.80}: a token must not travel over plain {address.scheme}; use {address.scheme}s"
            )
        if self.tls is not None and not is_secure:
            raise ConfigError(
                f"store={self.url!r:.80}: tls is for https:// and grpcs://; leave it out, or use one of them"
            )

    @property
    def scheme(self) -> str:
        return urlsplit(self.url).scheme

    @property
    def host(self) -> str:
        """The host and the port."""
        return urlsplit(self.url).netloc

    def cache_file(self) -> Path | None:
        if self.cache is None:
            return None
        name = hashlib.blake2b(f"{self.url}\n{self.channel}".encode(), digest_size=16).hexdigest()
        return self.cache / f"{name}.json"
