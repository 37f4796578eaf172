"""What keeps a student and an optimizer safe from others: tokens and TLS."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

TOKEN_VARIABLE = "SIMBA_STUDENT_TOKEN"  # noqa: S105 - the name of a variable
"""The environment variable with the token of students, on both sides."""


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


def is_loopback(host: str) -> bool:
    """Return whether what is sent to `host` stays on this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
