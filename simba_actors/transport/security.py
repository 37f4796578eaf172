"""Security of connections: TLS, and where a token may be sent in the clear."""

from __future__ import annotations

import ipaddress
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from simba_actors.errors import ConfigError

REMEDIES: Mapping[str, str] = {
    "certificate has expired": "renew the certificate of the server, or set the clock of this machine",
    "certificate is not yet valid": "set the clock of this machine, or of the machine that issued the certificate",
    "mismatch": "use a host name that the certificate of the server is for",
    "CERTIFICATE_VERIFY_FAILED": "give the certificate of the authority that vouches for the server, as TLS(ca=…)",
    "CERTIFICATE_REQUIRED": "give a certificate that the server accepts, as TLS(certificate=…, key=…)",
}
"""What to do about an error of TLS, by words in it. The first that fits counts."""


@dataclass(frozen=True, slots=True)
class TLS:
    """Files for `https://` and `grpcs://`, in PEM format.

    RemoteStudent("https://students.internal:7000", tls=TLS(ca="ca.pem", certificate="me.pem", key="me.key"))

    """

    ca: str | Path | None = None
    """Certificates of the authorities that may vouch for the other side; by default those of the system."""
    certificate: str | Path | None = None
    """This side's own certificate, for mutual TLS."""
    key: str | Path | None = None
    """The key of `certificate`."""


def check_token(token: object) -> None:
    """Raise ConfigError, without the token, unless it is None or visible ASCII characters. Headers hold no others."""
    if token is not None and not (isinstance(token, str) and re.fullmatch("[!-~]+", token)):
        raise ConfigError(
            "token must be visible ASCII characters, at least one, or None for no token: remove spaces and line "
            "breaks, such as the one at the end of a file"
        )


def is_loopback(host: str) -> bool:
    """Return whether data sent to `host` stays on this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def client_context(tls: TLS) -> ssl.SSLContext:
    """Return the context of HTTPS requests. Raise ConfigError if a file can't be read."""
    try:
        context = ssl.create_default_context(cafile=tls.ca)
        if tls.certificate is not None:
            context.load_cert_chain(tls.certificate, tls.key)
    except (OSError, ssl.SSLError) as error:
        raise unreadable(tls, error) from error
    return context


def unreadable(tls: TLS, error: Exception) -> ConfigError:
    """Return the error for files that can't be used."""
    return ConfigError(f"TLS: {error}: check the files of {tls}")


def remedy_of(problem: str) -> str:
    """Return what to do about an error of TLS, as the end of its message; nothing for other errors."""
    return next((f": {remedy}" for words, remedy in REMEDIES.items() if words in problem), "")
