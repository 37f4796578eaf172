"""What live programs make of a server that refuses, is busy or has lost its store, and of a cache that is no folder."""

from __future__ import annotations

import logging
import threading
from collections.abc import Generator
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import orjson
import pytest

from simba_actors.live import LiveProgram, client, http_client
from simba_actors.live.client import LONGEST_RETRY_AFTER, retry_delay
from simba_actors.live.follower import Snapshot
from simba_actors.live.http_client import HTTPClient
from simba_actors.live.router import LiveState
from simba_actors.live.wire import Remote, etag_of, snapshot_from_json, snapshot_to_json
from simba_actors.publishing.publications import Publication, Served
from tests.support.live import sayer, saying
from tests.support.logs import logged_by
from tests.support.waiting import PATIENCE, block_until


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask servers again soon."""
    monkeypatch.setattr(client, "RETRY_SECONDS", (0.01, 0.05))


def snapshot(*words: str) -> bytes:
    """Return what a server answers when the last of `words` is published, or when nothing is."""
    if not words:
        return orjson.dumps(snapshot_to_json(Snapshot()))
    configuration, number = saying(words[-1]), len(words)
    publication = Publication(
        "default", number, "publish", configuration.digest, None, None, None, None, "test", "say it", 0.0
    )
    return orjson.dumps(snapshot_to_json(Snapshot(Served(publication), {number: configuration})))


class ChannelServer:
    """Answers each Get with `status` and `body`, over real HTTP. A Watch ends at once, with `watch_status`."""

    def __init__(self) -> None:
        self.status, self.body = 200, snapshot("one")
        self.watch_status = 200
        self.tag: str | None = 'W/"7"'  # As from a proxy that compresses.
        self.report_to = ""
        """Where a Report is redirected to; empty where it is answered."""
        self.gets = self.redirected = self.taken = 0
        self.watched = ""


@contextmanager
def channel_server() -> Generator[tuple[ChannelServer, str]]:
    server = ChannelServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_watch = "/watch" in self.path
            server.gets += not is_watch
            server.watched = self.path.partition("etag=")[2] if is_watch else server.watched
            status, body = (server.watch_status, b"") if is_watch else (server.status, server.body)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if server.tag is not None:
                self.send_header("ETag", server.tag)
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            location = server.report_to
            server.redirected += location != ""
            server.taken += location == ""
            self.send_response(302 if location else 200)
            self.send_header("Location", location)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - so it is called
            """Be quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads = True
        thread = threading.Thread(target=http.serve_forever, args=[0.01])
        thread.start()
        try:
            yield server, f"http://127.0.0.1:{http.server_address[1]}"
        finally:
            http.shutdown()
            thread.join(PATIENCE)


def answer(live: LiveProgram) -> str:
    return live(question="?").answer


def test_a_channel_that_is_gone_keeps_what_was_served(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with channel_server() as (server, url), caplog.at_level(logging.WARNING):
        live = LiveProgram(sayer(), store=url, cache=tmp_path)
        block_until(lambda: answer(live) == "one")
        server.body = snapshot()
        block_until(lambda: answer(live) == "one" and live.state is LiveState.STALE)
        (cached,) = tmp_path.iterdir()
    assert b"Say one." in cached.read_bytes()
    assert "nothing is published to channel 'default' any more: publish again" in caplog.text


def test_a_channel_that_comes_back_is_followed_again() -> None:
    with channel_server() as (server, url):
        live = LiveProgram(sayer(), store=url)
        block_until(lambda: answer(live) == "one")
        server.body = snapshot()
        block_until(lambda: answer(live) == "one" and live.state is LiveState.STALE)
        server.body = snapshot("one", "two")
        block_until(lambda: answer(live) == "two")


def test_a_proxy_that_cuts_each_watch_is_no_outage(caplog: pytest.LogCaptureFixture) -> None:
    with channel_server() as (server, url), caplog.at_level(logging.WARNING):
        server.watch_status = 504
        live = LiveProgram(sayer(), store=url)
        block_until(lambda: answer(live) == "one" and server.gets > 1)
        server.body = snapshot("one", "two")
        block_until(lambda: answer(live) == "two")
        assert live.state is LiveState.READY
    assert "can't be followed" not in caplog.text


@pytest.mark.parametrize(
    ("status", "remedy"),
    [(401, "give it the token of the server"), (404, "must be `simba-actors serve --channels`")],
)
def test_a_refusal_is_one_warning_that_names_the_remedy(
    status: int, remedy: str, caplog: pytest.LogCaptureFixture
) -> None:
    with channel_server() as (server, url), caplog.at_level(logging.WARNING):
        server.status = status
        live = LiveProgram(sayer(), store=url)
        block_until(lambda: answer(live) == "nothing" and server.gets > 2)
    (warning,) = logged_by(caplog, "simba_actors.live.router")
    assert remedy in warning


def test_a_cache_that_can_not_be_used_is_named_and_fails_no_call(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "file"
    folder.touch()
    with channel_server() as (_, url), caplog.at_level(logging.WARNING):
        live = LiveProgram(sayer(), store=url, cache=folder)
        block_until(lambda: answer(live) == "one")
    assert "can't be written, so a cold start needs" in caplog.text


def test_a_tag_that_a_proxy_has_weakened_is_the_servers() -> None:
    with channel_server() as (_, url):
        assert HTTPClient(Remote(url, "default")).get("") == (snapshot("one"), "7")


def test_a_tag_that_a_proxy_has_removed_is_made_again() -> None:
    with channel_server() as (server, url):
        server.tag = None
        live = LiveProgram(sayer(), store=url)
        block_until(lambda: answer(live) == "one" and server.watched != "")
        assert server.watched == etag_of(snapshot_from_json(orjson.loads(server.body)).served)


def test_an_answer_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "GET_SECONDS", -1.0)
    with channel_server() as (_, url), pytest.raises(TimeoutError, match="the snapshot takes longer than"):
        HTTPClient(Remote(url, "default")).get("")


def test_scores_are_sent_again_after_a_redirect_that_is_no_address(caplog: pytest.LogCaptureFixture) -> None:
    with channel_server() as (server, url), caplog.at_level(logging.WARNING):
        server.report_to = "http://["
        live = LiveProgram(sayer(), store=url)
        live.report(1.0, "1.1.a")
        block_until(lambda: server.redirected > 1)
        server.report_to = ""
        block_until(lambda: server.taken)  # Closing does not wait for a second attempt.
        live.close()
    assert "scores can't be reported" in caplog.text
    assert "are not stored yet" not in caplog.text


def busy(retry_after: str) -> HTTPError:
    headers = Message()
    headers["Retry-After"] = retry_after
    return HTTPError("http://127.0.0.1", 429, "Too Many Requests", headers, None)


@pytest.mark.parametrize(("retry_after", "seconds"), [("7", 7.0), ("86400", LONGEST_RETRY_AFTER)])
def test_a_busy_server_is_left_alone_for_as_long_as_it_asks(retry_after: str, seconds: float) -> None:
    assert retry_delay(busy(retry_after), 1) == seconds


@pytest.mark.parametrize("retry_after", ["soon", "-1", "nan", "Wed, 21 Oct 2026 07:28:00 GMT"])
def test_a_time_to_wait_that_makes_no_sense_is_ignored(retry_after: str) -> None:
    assert 0 < retry_delay(busy(retry_after), 1) <= 0.01
