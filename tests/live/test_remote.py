"""Live programs that follow a store on another host, over real HTTP, whatever happens to the server."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import socketserver
import stat
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from simba_actors.errors import ConfigError
from simba_actors.live import LiveProgram
from simba_actors.live.router import LiveState
from simba_actors.publishing.channel import Channel
from simba_actors.web import dashboard
from tests.support import hosts
from tests.support.hosts import free_port, run_script_in_fork
from tests.support.live import publish, sayer, start_canary
from tests.support.logs import logged_by
from tests.support.waiting import PATIENCE, block_until

TOKEN = secrets.token_hex()


def serve(store: Path, token: str, port: int) -> None:
    """Serve the store's channels."""
    uvicorn.run(dashboard(store, token=token or None, channels=True), port=port, log_level="warning")


def serving(store: Path, port: int, token: str = "") -> AbstractContextManager[str]:
    """Run a server of the store's channels that is killed at the end."""
    return hosts.serving(serve, store, token, port=port)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    asyncio.run(publish(tmp_path / "simba.db", "one"))
    return tmp_path / "simba.db"


def until_answer(live: LiveProgram, word: str) -> None:
    """Call until the answer is the expected one."""
    block_until(lambda: live(question="?").answer == word)


def until_state(live: LiveProgram, state: LiveState) -> None:
    """Wait until a live program has that state."""
    block_until(lambda: live.state is state)


def test_the_first_call_runs_what_the_server_serves_and_later_ones_what_is_published(store: Path) -> None:
    with serving(store, free_port()) as url:
        live = LiveProgram(sayer(), store=url)
        assert live(question="?").answer == "one"
        assert live.state is LiveState.READY
        asyncio.run(publish(store, "two"))
        until_answer(live, "two")
        assert asyncio.run(live.acall(question="?")).answer == "two"


def test_a_channel_may_have_any_name(store: Path) -> None:
    names = ["a/b", "ü~%41", ".."]
    for name in names:
        asyncio.run(publish(store, "named", channel=name))
    with serving(store, free_port()) as url:
        lives = [LiveProgram(sayer(), store=url, channel=name) for name in names]
        assert [live(question="?").answer for live in lives] == ["named"] * len(names)


def test_what_is_known_is_not_sent_again(store: Path) -> None:
    with serving(store, free_port()) as url:
        first = httpx.get(f"{url}/api/channels/default", timeout=PATIENCE)
        known = {"if-none-match": first.headers["etag"]}
        again = httpx.get(f"{url}/api/channels/default", headers=known, timeout=PATIENCE)
        asyncio.run(publish(store, "two"))
        after = httpx.get(f"{url}/api/channels/default", headers=known, timeout=PATIENCE)
    assert [first.status_code, again.status_code, after.status_code] == [200, 304, 200]
    assert after.json()["current"]["version"] == 2


def test_a_watch_hints_at_a_change(store: Path) -> None:
    with serving(store, free_port()) as url:
        etag = httpx.get(f"{url}/api/channels/default", timeout=PATIENCE).headers["etag"].strip('"')
        with httpx.stream(
            "GET", f"{url}/api/channels/default/watch", params={"etag": etag}, timeout=PATIENCE
        ) as stream:
            lines = stream.iter_lines()
            assert next(lines) == ": watching"
            asyncio.run(publish(store, "two"))
            assert [line for line in lines if line] == ["data: 2"]


def test_a_cold_start_with_a_dead_server_runs_what_was_cached(store: Path, tmp_path: Path) -> None:
    port, cache = free_port(), tmp_path / "cache"
    script = """
import sys
from simba_actors import LiveProgram
from simba_actors.live import remote
from tests.support.live import sayer
remote.FIRST_SECONDS = 100.0
live = LiveProgram(sayer(), store=sys.argv[1], cache=sys.argv[2])
print(live(question="?").answer, live(question="?").answer, live.version, live.state.value)
"""
    with serving(store, port) as url:
        assert run_script_in_fork(script, url, cache).split() == ["one", "one", "1", "ready"]
    (file,) = cache.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    cold = run_script_in_fork(script, url, cache).split()
    assert cold[:3] == ["one", "one", "1"]
    assert cold[3] in ("stale", "ready"), "the cached version serves until the server is known to be dead"


def test_a_damaged_cache_is_ignored(store: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = tmp_path / "cache"
    with serving(store, free_port()) as url:
        LiveProgram(sayer(), store=url, cache=cache)(question="?")
        (file,) = cache.iterdir()
    stored = json.loads(file.read_text())
    file.write_text(json.dumps({**stored, "body": stored["body"].replace("Say one", "Say bad")}))
    with caplog.at_level(logging.WARNING):
        assert LiveProgram(sayer(), store=url, cache=cache)(question="?").answer == "nothing"
    assert "its checksum is wrong" in caplog.text


def test_without_server_and_cache_the_student_runs_and_that_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    live = LiveProgram(sayer(), store=f"http://127.0.0.1:{free_port()}")
    with caplog.at_level(logging.WARNING):
        assert {live(question="?").answer for _ in range(20)} == {"nothing"}
    assert live.state is LiveState.ERROR
    (warning,) = logged_by(caplog, "simba_actors.live.router")
    assert "Connection refused" in warning
    assert warning.endswith("keeps running the student as it is")


def test_a_server_that_is_killed_and_started_again_fails_no_call_and_leaves_nobody_behind(store: Path) -> None:
    port = free_port()
    live = LiveProgram(sayer(), store=f"http://127.0.0.1:{port}")
    over = threading.Event()
    failed: list[BaseException] = []

    def call_on_and_on() -> None:
        while not over.wait(0.001):
            try:
                live(question="?")
            except BaseException as error:
                failed.append(error)

    callers = [threading.Thread(target=call_on_and_on) for _ in range(2)]
    with serving(store, port):
        until_answer(live, "one")
        for caller in callers:
            caller.start()
    try:
        for word in ("two", "three"):
            until_state(live, LiveState.STALE)
            asyncio.run(publish(store, word))
            with serving(store, port):
                until_answer(live, word)
                until_state(live, LiveState.READY)
    finally:
        over.set()
        for caller in callers:
            caller.join(PATIENCE)
    assert failed == []


def test_scores_are_reported_and_decide_about_a_canary(store: Path) -> None:
    asyncio.run(start_canary(store, "new", 0.5))
    with serving(store, free_port()) as url:
        live = LiveProgram(sayer(), store=url)
        for number in range(60):
            with live.call(key=str(number)) as call:
                said = live(question="?").answer
            for _ in range(2):  # The second one does not count.
                live.report((0.8 if said == "new" else 0.2) + (0.05 if number % 2 else -0.05), call.id)
        live.close()
        block_until(lambda: version_of(live) == 3)

    async def newest() -> Any:
        async with await Channel.open(store, "default") as channel:
            return (await channel.history())[-1]

    decided = asyncio.run(newest())
    counts = [int(word) for word in decided.reason.replace(":", "").split() if word.isdigit()]
    assert decided.kind == "promote"
    assert sum(count for count in counts if count > 2) <= 60


def version_of(live: LiveProgram) -> int:
    """Return the version that is served now."""
    live.sync_variables()
    return live.version


def test_scores_that_make_no_sense_are_refused(store: Path) -> None:
    bodies: list[Any] = [{}, {"scores": [{"call": "x", "score": 1}]}, {"scores": [{"call": "1.1.a", "score": "good"}]}]
    with serving(store, free_port()) as url:
        address = f"{url}/api/channels/default/reports"
        statuses = [httpx.post(address, json=body, timeout=PATIENCE).status_code for body in bodies]
    assert statuses == [422] * 3


def test_a_token_is_needed_where_the_server_has_one(store: Path) -> None:
    with serving(store, free_port(), token=TOKEN) as url:
        assert LiveProgram(sayer(), store=url)(question="?").answer == "nothing"
        assert LiveProgram(sayer(), store=url, token=TOKEN[1:])(question="?").answer == "nothing"
        assert LiveProgram(sayer(), store=url, token=TOKEN)(question="?").answer == "one"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"store": "http://example.org/simba", "token": TOKEN}, "a token must not travel over plain http"),
        ({"store": "https://example.org", "token": f"{TOKEN}\n"}, "token must be visible ASCII characters"),
        ({"store": "https://user:password@example.org"}, "must have a host, and no user, query or fragment"),
        ({"store": "https://example.org", "keep_examples": 1}, "keep_examples needs the store's own file"),
        ({"store": "simba.db", "cache": "cache"}, "token, tls and cache are for servers"),
        ({"store": "https://example.org", "channel": ""}, "must be a string of 1 to 100 characters"),
    ],
)
def test_an_address_that_cannot_be_followed_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LiveProgram(sayer(), **given)


ODD_SNAPSHOT = b'{"current": {"version": "three", "share": 1}, "canary": null, "configurations": {}}'

ODD_ANSWERS = [
    b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"current": null',
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
    b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnull",
    b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(ODD_SNAPSHOT), ODD_SNAPSHOT),
    b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n",
    b"not HTTP at all\r\n\r\n",
    b"",
]


@pytest.fixture(params=range(len(ODD_ANSWERS)))
def odd_server(request: pytest.FixtureRequest) -> Iterator[str]:
    class Answer(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)
            self.request.sendall(ODD_ANSWERS[request.param])

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join(PATIENCE)


def test_half_and_odd_answers_fail_no_call(odd_server: str) -> None:
    live = LiveProgram(sayer(), store=odd_server)
    assert [live(question="?").answer for _ in range(3)] == ["nothing"] * 3
    assert live.state is LiveState.ERROR


FORKING = """
import asyncio, os, signal, sys
from pathlib import Path
from simba_actors import LiveProgram
from tests.support.live import publish, sayer
live = LiveProgram(sayer(), store=sys.argv[1])
live(question="?")
child = os.fork()
if child == 0:
    signal.alarm(100)
    while live(question="?").answer != "two":
        pass
    os._exit(0)
asyncio.run(publish(Path(sys.argv[2]), "two"))
print(os.waitpid(child, 0)[1], live.version)
"""
"""A live program is used, forked, and used again in the child until it runs what the parent publishes."""


def test_a_forked_child_follows_too(store: Path) -> None:
    with serving(store, free_port()) as url:
        assert run_script_in_fork(FORKING, url, store).split()[0] == "0"


def test_live_programs_of_one_channel_share_a_thread(store: Path) -> None:
    def threads() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name == "simba_actors remote"}

    with serving(store, free_port()) as url:
        before = threads()
        lives = [LiveProgram(sayer(), store=url) for _ in range(50)]
        assert {live(question="?").answer for live in lives} == {"one"}
        assert len(threads() - before) == 1
