"""Live programs whose clock differs from the server's."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

import pytest

from simba_actors.live import LiveProgram
from simba_actors.live.router import LiveState
from simba_actors.publishing.channel import Channel
from tests.live.test_remote import until_answer
from tests.support.channels import ChannelServers
from tests.support.live import publish, sayer, saying, start_canary

pytestmark = pytest.mark.slow

DAY = 24.0


@pytest.fixture(scope="module")
def servers() -> Generator[ChannelServers]:
    servers = ChannelServers()
    yield servers
    servers.close()


async def publish_at(store: Path, word: str, hours: float) -> None:
    """Publish a version with a clock that differs from this machine's."""
    async with await Channel.open(store, "default", clock=lambda: time.time() + hours * 3600) as publisher:
        version = (await publisher.served()).version
        await publisher.publish(saying(word), expected=version, reason=f"say {word}")


@pytest.mark.parametrize("transport", ["http", "grpc"])
def test_the_newest_version_runs_whatever_clocks_say(tmp_path: Path, servers: ChannelServers, transport: str) -> None:
    if transport == "grpc":
        pytest.importorskip("grpc")
    store = tmp_path / "simba.db"
    asyncio.run(publish(store, "one"))
    servers.set_clock(DAY)
    with servers.serving(store, transport=transport) as address:
        live = LiveProgram(sayer(), store=address)
        until_answer(live, "one")
        for word, hours in [("two", -DAY), ("three", 2 * DAY), ("four", 0.0)]:
            servers.set_clock(hours)
            asyncio.run(publish_at(store, word, -hours))
            until_answer(live, word)
            assert live.state is LiveState.READY


@pytest.mark.parametrize("transport", ["http", "grpc"])
def test_scores_count_once_whatever_the_clocks_say(tmp_path: Path, servers: ChannelServers, transport: str) -> None:
    if transport == "grpc":
        pytest.importorskip("grpc")
    store = tmp_path / "simba.db"
    asyncio.run(publish(store, "one"))
    asyncio.run(start_canary(store, "new", 0.5))
    with servers.serving(store, transport=transport) as address:
        live = LiveProgram(sayer(), store=address)
        live(question="?")
        with live.call() as call:
            live(question="?")
        for hours in (DAY, -DAY):
            servers.set_clock(hours)
            live.report(0.5, call.id)
            live.close()
    with closing(sqlite3.connect(store)) as db:
        assert db.execute("SELECT count(*) FROM reports").fetchone() == (1,)
