"""Live programs that follow a store on another host, over real gRPC, whatever happens to the server."""

from __future__ import annotations

import asyncio
import secrets
import socket
import sqlite3
import threading
import time
from collections.abc import Generator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from simba_actors.errors import ConfigError
from simba_actors.live import LiveProgram
from simba_actors.live.client import ReportRefusedError, open_client
from simba_actors.live.remote import Poller
from simba_actors.live.router import LiveState
from simba_actors.live.wire import Remote
from simba_actors.transport.security import TLS
from tests.live.test_remote import FORKING, until_answer, until_state
from tests.support.channels import ChannelServers
from tests.support.hosts import free_port, run_script_in_fork
from tests.support.live import publish, sayer, start_canary
from tests.support.logs import logged_by
from tests.support.waiting import PATIENCE, block_until

pytest.importorskip("grpc")

pytestmark = pytest.mark.slow

TOKEN = secrets.token_hex()


@pytest.fixture(scope="module")
def servers() -> Generator[ChannelServers]:
    servers = ChannelServers()
    yield servers
    servers.close()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    asyncio.run(publish(tmp_path / "simba.db", "one"))
    return tmp_path / "simba.db"


class Relay:
    """Passes bytes to a port until it cuts its connections. A `silent` one stops passing anything back."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        self.silent = False
        self.address = f"grpc://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Cut all connections that are open now."""
        with self._lock:
            cut, self._open = self._open, []
        for end in cut:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def close(self) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                far = socket.create_connection(("127.0.0.1", self._port))
                with self._lock:
                    self._open += [near, far]
                threading.Thread(target=self._pass, args=[near, far, False], daemon=True).start()
                threading.Thread(target=self._pass, args=[far, near, True], daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, back: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if not (back and self.silent):
                    sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def relayed(address: str) -> Generator[Relay]:
    relay = Relay(int(address.rpartition(":")[2]))
    try:
        yield relay
    finally:
        relay.close()


def test_the_first_call_runs_what_the_server_serves_and_later_ones_what_is_published(
    store: Path, servers: ChannelServers
) -> None:
    with servers.serving(store) as address:
        live = LiveProgram(sayer(), store=address)
        assert live(question="?").answer == "one"
        assert live.state is LiveState.READY
        asyncio.run(publish(store, "two"))
        until_answer(live, "two")


def test_a_server_that_ends_and_starts_again_fails_no_call_and_leaves_nobody_behind(
    store: Path, servers: ChannelServers
) -> None:
    port = free_port()
    live = LiveProgram(sayer(), store=f"grpc://127.0.0.1:{port}")
    with servers.serving(store, port):
        until_answer(live, "one")
    until_state(live, LiveState.STALE)
    assert live(question="?").answer == "one"
    asyncio.run(publish(store, "two"))
    with servers.serving(store, port):
        until_answer(live, "two")
        until_state(live, LiveState.READY)


def test_a_stream_that_is_cut_is_opened_again(store: Path, servers: ChannelServers) -> None:
    with servers.serving(store) as address, relayed(address) as relay:
        live = LiveProgram(sayer(), store=relay.address)
        until_answer(live, "one")
        for word in ("two", "three"):
            relay.cut()
            asyncio.run(publish(store, word))
            until_answer(live, word)


def test_without_a_server_the_student_runs(caplog: pytest.LogCaptureFixture) -> None:
    live = LiveProgram(sayer(), store=f"grpc://127.0.0.1:{free_port()}")
    assert {live(question="?").answer for _ in range(20)} == {"nothing"}
    assert live.state is LiveState.ERROR
    first, *_ = logged_by(caplog, "simba_actors.live.router")
    assert first.endswith("keeps running the student as it is")
    assert "Get: unavailable:" in first


def test_what_was_served_last_is_kept_on_disk(store: Path, servers: ChannelServers, tmp_path: Path) -> None:
    with servers.serving(store) as address:
        live = LiveProgram(sayer(), store=address, cache=tmp_path / "cache")
        assert live(question="?").answer == "one"
        _, _, snapshot, _ = Poller(Remote(address, "default", cache=tmp_path / "cache")).state()
    assert snapshot is not None
    assert [publication.reason for publication in snapshot.served.publications] == ["say one"]


def counted(store: Path) -> int:
    """Scores that decide about the canary."""
    with closing(sqlite3.connect(store)) as db:
        return db.execute("SELECT count(*) FROM reports").fetchone()[0]


def calls_beside_a_canary(live: LiveProgram, number: int) -> list[str]:
    asked = []
    for key in range(number):
        with live.call(key=str(key)) as call:
            live(question="?")
        asked.append(call.id)
    return asked


def test_a_score_counts_once_however_often_it_arrives(store: Path, servers: ChannelServers) -> None:
    asyncio.run(start_canary(store, "new", 0.5))
    with servers.serving(store) as address:
        live = LiveProgram(sayer(), store=address)
        live(question="?")
        calls = calls_beside_a_canary(live, 5)
        for _ in range(2):
            for call in calls:
                live.report(0.5, call)
        live.close()
        open_client(Remote(address, "default")).report([(call, 0.5) for call in calls])
    assert counted(store) == 5


def test_a_score_whose_answer_is_lost_is_sent_again_and_counts_once(store: Path, servers: ChannelServers) -> None:
    asyncio.run(start_canary(store, "new", 0.5))
    with servers.serving(store) as address, relayed(address) as relay:
        live = LiveProgram(sayer(), store=relay.address)
        live(question="?")
        (call,) = calls_beside_a_canary(live, 1)
        relay.silent = True
        live.report(0.5, call)
        block_until(lambda: counted(store) == 1)
        relay.silent = False
        relay.cut()
        assert live._runner is not None
        writer = live._runner.recorder._writer
        block_until(lambda: writer.flush(time.monotonic() + PATIENCE))
    assert counted(store) == 1


@pytest.mark.parametrize("transport", ["http", "grpc"])
def test_a_server_on_this_machine_is_reached_without_a_proxy(
    transport: str, servers: ChannelServers, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy could not reach it, and would see the token."""
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        with servers.serving(store, token=TOKEN, transport=transport) as address:
            live = LiveProgram(sayer(), store=address, token=TOKEN)
            block_until(lambda: live(question="?").answer == "one")
        proxy.settimeout(0)
        with pytest.raises(BlockingIOError):
            proxy.accept()


@pytest.mark.parametrize("transport", ["grpc", "http"])
def test_scores_wait_while_the_server_refuses_the_token(
    store: Path, servers: ChannelServers, caplog: pytest.LogCaptureFixture, transport: str
) -> None:
    asyncio.run(start_canary(store, "new", 0.5))
    with servers.serving(store, token=TOKEN, transport=transport) as address:
        live = LiveProgram(sayer(), store=address, token=TOKEN)
        live(question="?")
        (call,) = calls_beside_a_canary(live, 1)
    port = int(address.rpartition(":")[2])
    assert live._runner is not None
    writer = live._runner.recorder._writer
    with servers.serving(store, port, token=TOKEN[1:], transport=transport):
        live.report(0.5, call)
        assert not writer.flush(time.monotonic() + PATIENCE)  # Sending them has failed.
        assert counted(store) == 0
        assert "are sent again" in caplog.text
    with servers.serving(store, port, token=TOKEN, transport=transport):
        block_until(lambda: writer.flush(time.monotonic() + PATIENCE))
        assert counted(store) == 1


@pytest.mark.parametrize("scores", [[("not an id", 0.5)], [("1.1.a", float("nan"))]])
def test_scores_that_make_no_sense_are_refused_for_good(
    store: Path, servers: ChannelServers, scores: list[Any]
) -> None:
    with servers.serving(store) as address, pytest.raises(ReportRefusedError, match="invalid_argument"):
        open_client(Remote(address, "default")).report(scores)


def test_a_token_is_needed_where_the_server_has_one(
    store: Path, servers: ChannelServers, caplog: pytest.LogCaptureFixture
) -> None:
    with servers.serving(store, token=TOKEN) as address:
        assert LiveProgram(sayer(), store=address)(question="?").answer == "nothing"
        assert LiveProgram(sayer(), store=address, token=TOKEN[1:])(question="?").answer == "nothing"
        assert LiveProgram(sayer(), store=address, token=TOKEN)(question="?").answer == "one"
    assert "Get: unauthenticated: the token is missing or wrong" in caplog.text


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"store": "grpc://example.org:7001", "token": TOKEN}, "a token must not travel over plain grpc; use grpcs"),
        ({"store": "grpc://example.org"}, "must have a port and no path, as in grpc://example.org:7001"),
        ({"store": "grpcs://example.org:7001/simba"}, "must have a port and no path"),
        ({"store": "grpc://127.0.0.1:7001", "tls": TLS(ca="ca.pem")}, "tls is for https:// and grpcs://"),
        ({"store": "grpcs://127.0.0.1:7001", "tls": TLS(ca="missing.pem")}, "check the files"),
        ({"store": "simba.db", "tls": TLS()}, "token, tls and cache are for servers"),
    ],
)
def test_an_address_that_cannot_be_followed_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LiveProgram(sayer(), **given)


def test_a_forked_child_follows_too(store: Path, servers: ChannelServers) -> None:
    with servers.serving(store) as address:
        assert run_script_in_fork(FORKING, address, store).split()[0] == "0"


def test_the_descriptors_are_those_of_the_contract(tmp_path: Path) -> None:
    protoc = pytest.importorskip("grpc_tools.protoc")
    from simba_actors.live.channel_messages import DESCRIPTORS

    proto, made = DESCRIPTORS.with_suffix(".proto"), tmp_path / "channels.binpb"
    assert protoc.main(["protoc", f"-I{proto.parent}", f"--descriptor_set_out={made}", proto.name]) == 0
    assert made.read_bytes() == DESCRIPTORS.read_bytes()
