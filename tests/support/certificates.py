"""Certificates for tests of TLS."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.waiting import PATIENCE


def make_certificates(folder: Path) -> Path:
    """Fill a folder with a certificate authority, and certificates of a server and a client that it has signed."""
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]

    def make(name: str, *options: str) -> None:
        command = [*new, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem", *options]
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=PATIENCE)

    try:
        make("ca", "-addext", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature")
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    issued = ("-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "basicConstraints=critical,CA:FALSE")
    make("server", *issued, "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost")
    make("client", *issued)
    return folder
