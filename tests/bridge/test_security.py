"""Tokens and certificates, over HTTP and gRPC."""

from __future__ import annotations

import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from simba_actors import RemoteStudent
from simba_actors.errors import ConfigError, StudentUnreachableError
from simba_actors.transport.security import TLS, remedy_of
from tests.support.certificates import make_certificates
from tests.support.languages import process
from tests.support.students import quiz_service, served_over_grpc

pytestmark = pytest.mark.slow

TOKEN = "a-secret-token"  # noqa: S105 - of a test

APP = """
from tests.support.students import quiz_service

def make():
    return quiz_service()
"""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def addresses(certificates: Path, tmp_path_factory: pytest.TempPathFactory) -> Generator[list[str]]:
    """A student that accepts clients with a certificate, over HTTPS and gRPC."""
    pytest.importorskip("grpc")
    folder = tmp_path_factory.mktemp("app")
    (folder / "app.py").write_text(APP)
    files = {"--certificate": "server.pem", "--key": "server.key", "--client-ca": "ca.pem"}
    options = [word for name, file in files.items() for word in (name, certificates / file)]
    command = [sys.executable, "-m", "simba_actors", "student", "app:make", "--port", "0", "--grpc-port", "0", *options]
    with process(command, folder, 2) as printed:
        yield printed


@pytest.mark.parametrize("transport", [0, 1], ids=["https", "grpcs"])
def test_a_client_with_a_certificate_is_let_in(addresses: list[str], certificates: Path, transport: int) -> None:
    tls = TLS(ca=certificates / "ca.pem", certificate=certificates / "client.pem", key=certificates / "client.key")
    assert RemoteStudent(addresses[transport], tls=tls)(question="What is the colour of ball 0?").answer


@pytest.mark.parametrize("transport", [0, 1], ids=["https", "grpcs"])
def test_a_client_without_a_certificate_is_refused(addresses: list[str], certificates: Path, transport: int) -> None:
    with pytest.raises(StudentUnreachableError):
        RemoteStudent(addresses[transport], tls=TLS(ca=certificates / "ca.pem"))


@pytest.mark.parametrize("transport", [0, 1], ids=["https", "grpcs"])
def test_a_server_that_nobody_known_vouches_for_is_not_trusted(addresses: list[str], transport: int) -> None:
    with pytest.raises(StudentUnreachableError, match=r"give the certificate of the authority .* TLS\(ca=…\)"):
        RemoteStudent(addresses[transport])


def test_a_token_lets_a_caller_in_over_grpc() -> None:
    with served_over_grpc(quiz_service(), token=TOKEN) as address:
        assert RemoteStudent(address, token=TOKEN).description.name == "HintAndAnswer"


def test_a_wrong_token_is_refused_over_grpc() -> None:
    with (
        served_over_grpc(quiz_service(), token=TOKEN) as address,
        pytest.raises(StudentUnreachableError, match="unauthenticated: the token is missing or wrong"),
    ):
        RemoteStudent(address, token="wrong")  # noqa: S106 - of a test


@pytest.mark.parametrize("scheme", ["https", "grpcs"])
def test_a_certificate_that_can_not_be_read_is_named(scheme: str, tmp_path: Path) -> None:
    if scheme == "grpcs":
        pytest.importorskip("grpc")
    with pytest.raises(ConfigError, match="check the files"):
        RemoteStudent(f"{scheme}://127.0.0.1:1", tls=TLS(ca=tmp_path / "missing.pem"))


def test_a_certificate_that_has_expired_is_to_be_renewed() -> None:
    problem = "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate has expired (_ssl.c:1006)"
    assert remedy_of(problem) == ": renew the certificate of the server, or set the clock of this machine"


def test_other_errors_have_no_remedy_of_tls() -> None:
    assert remedy_of("[Errno 111] Connection refused") == ""
