"""Live programs that follow a server which asks for certificates, over HTTP and gRPC."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from simba_actors import TLS
from simba_actors.live import LiveProgram
from simba_actors.live.router import LiveState
from tests.support.certificates import make_certificates
from tests.support.languages import process
from tests.support.live import publish, sayer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def addresses(certificates: Path, tmp_path_factory: pytest.TempPathFactory) -> Generator[list[str]]:
    """Yield the addresses that `simba-actors serve` prints when it asks clients for a certificate: HTTPS and gRPC."""
    pytest.importorskip("grpc")
    store = tmp_path_factory.mktemp("store") / "simba.db"
    asyncio.run(publish(store, "one"))
    ports = ["--channels", "--port", "0", "--grpc-port", "0"]
    files = {"--certificate": "server.pem", "--key": "server.key", "--client-ca": "ca.pem"}
    options = [word for name, file in files.items() for word in (name, certificates / file)]
    command = [sys.executable, "-m", "simba_actors", "serve", *ports, *options, "--store", store]
    with process(command, store.parent, 2) as printed:
        yield printed


@pytest.mark.parametrize("transport", [0, 1], ids=["https", "grpcs"])
def test_a_live_program_with_a_certificate_is_served(addresses: list[str], certificates: Path, transport: int) -> None:
    tls = TLS(ca=certificates / "ca.pem", certificate=certificates / "client.pem", key=certificates / "client.key")
    live = LiveProgram(sayer(), store=addresses[transport], tls=tls)
    assert live(question="?").answer == "one"


@pytest.mark.parametrize("transport", [0, 1], ids=["https", "grpcs"])
@pytest.mark.parametrize("own", [True, False], ids=["no certificate", "an unknown server"])
def test_one_without_runs_the_student(addresses: list[str], certificates: Path, transport: int, own: bool) -> None:
    live = LiveProgram(sayer(), store=addresses[transport], tls=TLS(ca=certificates / "ca.pem") if own else None)
    assert live(question="?").answer == "nothing"
    assert live.state is LiveState.ERROR
