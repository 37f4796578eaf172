"""The last good version keeps running whatever happens to the store, or whatever is published."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import dspy
import pytest

from simba_actors.live import LiveProgram
from simba_actors.live.follower import POLL_SECONDS
from simba_actors.live.router import LiveState, Router
from simba_actors.programs import Configuration
from simba_actors.publishing.channel import Channel
from simba_actors.store.migrations import migrate
from tests.support.live import ManualClock, answer, publish, publish_elsewhere, said, sayer, saying
from tests.support.logs import logged_by
from tests.support.scripted_lm import ScriptedLM

ROUTER = "simba_actors.live.router"
"""The logger that says which version runs."""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "simba.db"


def garbage(store: Path) -> None:
    store.write_bytes(b"no database at all " * 500)


def empty(store: Path) -> None:
    store.touch()


def missing(store: Path) -> None:
    store.unlink(missing_ok=True)


def clear(store: Path) -> None:
    for file in store.parent.glob("simba.db*"):
        file.unlink()


async def test_a_store_that_is_not_there_yet_is_named_with_what_creates_it(
    store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    missing(store)
    await answer(LiveProgram(sayer(), store=store))
    assert f"there is no store {store}: an optimizer or a publication creates it" in caplog.text


async def serving_one(store: Path) -> tuple[LiveProgram, ManualClock]:
    """Return a live program that serves the version "one", and the clock by which it polls."""
    clock = ManualClock()
    live = LiveProgram(sayer(), store=store)
    live._router = Router(live.student, store, "default", clock=clock)
    await publish(store, "one")
    assert await answer(live) == "one"
    return live, clock


@pytest.mark.parametrize("damage", [missing, empty, garbage])
async def test_without_a_store_the_student_runs_as_it_is_and_that_is_said_once(
    damage: Any, store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damage(store)
    clock = ManualClock()
    live = LiveProgram(sayer(), store=store)
    live._router = Router(live.student, store, "default", clock=clock)
    for _ in range(3):
        assert await answer(live) == "nothing"
        clock.now += 1.0
    (warning,) = logged_by(caplog, ROUTER)
    assert "keeps running the student as it is" in warning


@pytest.mark.parametrize("damage", [missing, empty, garbage])
async def test_the_last_good_version_goes_on_whatever_happens_to_the_store(
    damage: Any, store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    live, clock = await serving_one(store)
    clear(store)
    damage(store)
    clock.now += 1.0
    with caplog.at_level(logging.WARNING):
        assert [await answer(live), live.version] == ["one", 1]
    assert "keeps running version 1" in caplog.text
    clear(store)
    await publish(store, "new")
    assert await answer(live) == "new"


async def test_a_store_of_an_older_version_of_the_package_has_no_channels_yet(store: Path) -> None:
    with closing(sqlite3.connect(store)) as db, db:
        migrate(db, 0, 1)
    db.close()
    assert await answer(LiveProgram(sayer(), store=store)) == "nothing"


async def publish_a_mistake(store: Path) -> None:
    await publish(store, "two", predictor="other")


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_version_for_another_student_is_named_and_the_last_good_one_goes_on(
    restarted: bool, store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await publish(store, "zero", "one")
    live = LiveProgram(sayer(), store=store)
    await answer(live)
    for _ in range(2):
        await publish_a_mistake(store)
    if restarted:
        live = LiveProgram(sayer(), store=store)
    assert [await answer(live), await answer(live), live.version] == ["one", "one", 2]
    (warning,) = logged_by(caplog, ROUTER)
    assert "version 4 of channel 'default' does not fit the student: the student has no variable 'other" in warning
    assert "; it has ['self.demos', 'self.instructions']; version 2 keeps running" in warning
    assert live.state is LiveState.STALE
    await publish(store, "three")
    assert await answer(live) == "three"
    assert live.state is LiveState.READY


async def test_where_no_version_ever_fitted_the_student_runs_as_it_is(store: Path) -> None:
    await publish_a_mistake(store)
    live = LiveProgram(sayer(), store=store)
    assert await answer(live) == "nothing"
    assert live.state is LiveState.ERROR


async def test_a_canary_for_another_student_gets_no_call(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    await publish(store, "one")
    async with await Channel.open(store, "default") as channel:
        other = Configuration.of({"other": ("Say two.", [])})
        await channel.start_canary(other, share=0.99, reason="a mistake")
    live = LiveProgram(sayer(), store=store)
    assert [await answer(live) for _ in range(20)] == ["one"] * 20
    (warning,) = logged_by(caplog, ROUTER)
    assert "version 2 of channel 'default' does not fit the student" in warning


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM configurations WHERE digest = ?",
        "UPDATE configurations SET value = 'no JSON' WHERE digest = ?",
        "UPDATE configurations SET value = '[1]' WHERE digest = ?",
        (
            "UPDATE configurations SET value = '{\"self.demos\": ' || replace(printf('%1000s', ''), ' ', '[') || "
            "replace(printf('%1000s', ''), ' ', ']') || '}' WHERE digest = ?"
        ),
    ],
    ids=["missing", "no JSON", "no object", "too deep"],
)
async def test_a_configuration_that_cannot_be_read_is_said_and_the_last_good_one_goes_on(
    damage: str, store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    live, clock = await serving_one(store)
    publish_elsewhere(store, "two")
    with closing(sqlite3.connect(store)) as db, db:
        db.execute(damage, [saying("two").digest])
    db.close()
    clock.now += POLL_SECONDS
    assert [await answer(live), live.version] == ["one", 1]
    (warning,) = logged_by(caplog, ROUTER)
    assert "is damaged: version 2 of channel" in warning


async def test_a_channel_that_does_not_exist_is_said_once(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    await publish(store, "one", channel="other")
    live = LiveProgram(sayer(), store=store, channel="bot")
    assert [await answer(live), await answer(live)] == ["nothing", "nothing"]
    (warning,) = logged_by(caplog, ROUTER)
    assert "has no channel 'bot' yet: the student as it is runs until something is published" in warning


class Picky(dspy.Predict):
    """A user's own kind of predictor, which rejects some instructions."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "signature" and "forbidden" in value.instructions:
            raise KeyError(value.instructions)
        super().__setattr__(name, value)


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_version_that_the_students_own_code_fails_of_is_named_and_the_last_good_one_goes_on(
    restarted: bool, store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    student: Any = Picky("question -> answer")
    student.lm = ScriptedLM(said)
    live = LiveProgram(student, store=store)
    await publish(store, "one")
    if not restarted:
        await answer(live)
    await publish(store, "forbidden")
    assert [await answer(live), await answer(live)] == ["one", "one"]
    (warning,) = logged_by(caplog, ROUTER)
    assert warning == (
        "version 2 of channel 'default' does not fit the student: KeyError: 'Say forbidden.'; version 1 keeps running"
    )
