"""Whatever goes wrong around a live program, requests are served with the last good version."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import dspy
import pytest

from simba_actors.live import LiveProgram
from simba_actors.live.background import BackgroundQueue
from simba_actors.live.follower import POLL_SECONDS
from simba_actors.live.router import Router
from simba_actors.programs import Configuration
from simba_actors.publishing.channel import Channel
from simba_actors.runtime.threads import Threads
from tests.support.live import ManualClock, answer, publish, sayer, start_canary
from tests.support.logs import logged_by
from tests.support.waiting import PATIENCE


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def live(tmp_path: Path, clock: ManualClock) -> LiveProgram:
    """A live program that serves version 1 of a channel with a canary, and checks the file when the clock moves."""
    store = tmp_path / "simba.db"
    await publish(store, "one")
    await start_canary(store, "canary", 0.5)
    live = LiveProgram(sayer(), store=store)
    live._router = Router(live.student, store, "default", clock=clock)
    assert await answer(live) in ("one", "canary")
    return live


def store_of(live: LiveProgram) -> Path:
    return Path(live._followed().store)


def edit(live: LiveProgram, sql: str) -> None:
    with closing(sqlite3.connect(store_of(live))) as db, db:
        db.execute("PRAGMA writable_schema = ON")
        db.execute(sql)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE publications SET share = 'a half' WHERE kind = 'canary'",
        "UPDATE publications SET share = x'00ff' WHERE kind = 'canary'",
        "UPDATE publications SET version = 'three', kind = 'publish' WHERE kind = 'canary'",
        "UPDATE publications SET digest = x'ff' WHERE kind = 'canary'",
        "UPDATE publications SET kind = 'promote', digest = CAST(x'ff' AS TEXT) WHERE kind = 'canary'",
        "UPDATE configurations SET value = x'00ff00'",
        "UPDATE sqlite_schema SET sql = CAST(x'ff' AS TEXT) WHERE name = 'publications'",
        "DELETE FROM sqlite_schema WHERE name = 'configurations'",
        "PRAGMA user_version = 1000",
        "PRAGMA application_id = 1",
    ],
)
async def test_a_damaged_publication_or_schema_fails_no_call(
    damage: str, live: LiveProgram, clock: ManualClock
) -> None:
    edit(live, damage)
    for _ in range(3):
        clock.now += POLL_SECONDS
        assert await answer(live) in ("one", "canary")
        assert live(question="?").answer in ("one", "canary")
    assert live.version == 1


async def test_a_store_that_cannot_even_be_looked_at_fails_no_call(
    live: LiveProgram, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stat(path: Any) -> Any:
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr("simba_actors.live.follower.os.stat", stat)
    clock.now += POLL_SECONDS
    assert await answer(live) in ("one", "canary")


def no_thread(*_: object, **__: object) -> None:
    raise RuntimeError("can't start new thread")


class Blocking(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ask: Any = sayer()

    def forward(self, question: str) -> Any:
        return self.ask(question=question)


async def test_without_threads_calls_run_on_the_loop_and_see_what_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    live = LiveProgram(Blocking(), store=tmp_path / "simba.db")
    async with await Channel.open(tmp_path / "simba.db", "default") as channel:
        await channel.publish(Configuration.of({"ask": ("Say one.", [])}), expected=0, reason="?")
    monkeypatch.setattr("simba_actors.live.background.threads", Threads())
    monkeypatch.setattr(threading.Thread, "start", no_thread)
    with caplog.at_level(logging.WARNING):
        assert [await answer(live), await answer(live)] == ["one", "one"]
    (warning,) = logged_by(caplog, "simba_actors.live.background")
    assert "block the event loop, since the process can't start threads for them" in warning


async def test_scores_wait_for_a_thread_that_cannot_be_started_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    handled: list[int] = []
    queue: BackgroundQueue[int] = BackgroundQueue(Threads(), handled.extend)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        assert queue.put(1)
        assert not queue.wait_until_empty(0.0)
    assert queue.put(2)
    assert queue.wait_until_empty(time.monotonic() + PATIENCE)
    assert handled == [1, 2]


class Unprintable:
    """What a student may answer."""

    def __str__(self) -> str:
        raise ValueError("not to be printed")

    __repr__ = __str__


def deep() -> Any:
    nested: list[Any] = []
    for _ in range(3000):
        nested = [nested]
    return nested


ODD: dict[str, Callable[[], Any]] = {
    "deep": deep,
    "unprintable": Unprintable,
    "surrogate": lambda: "\ud800",
    "huge": lambda: 2**70,
    "plain": lambda: "plain",
}


class Odd(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ask: Any = sayer()

    def forward(self, kind: str) -> Any:
        return dspy.Prediction(answer=ODD[kind]())


async def test_an_answer_that_is_not_json_does_not_keep_others_from_being_recorded(tmp_path: Path) -> None:
    store = tmp_path / "simba.db"
    await publish(store, "one", predictor="ask")
    live = LiveProgram(Odd(), store=store, metric=lambda example, prediction: 1.0, keep_examples=100)
    for kind in ODD:
        live(kind=kind)
    live.close()
    async with await Channel.open(store, "default") as channel:
        assert "plain" in [example.inputs["kind"] for example in await channel.examples()]


async def test_a_directory_in_the_place_of_the_file_fails_no_call(live: LiveProgram, clock: ManualClock) -> None:
    store = store_of(live)
    store.rename(store.with_name("moved.db"))
    store.mkdir()
    clock.now += POLL_SECONDS
    assert await answer(live) in ("one", "canary")


async def test_a_link_that_leads_to_itself_fails_no_call(tmp_path: Path) -> None:
    (tmp_path / "simba.db").symlink_to(tmp_path / "simba.db")
    assert await answer(LiveProgram(sayer(), store=tmp_path / "simba.db")) == "nothing"
