"""Events of a run: stored, replayed and followed."""

from __future__ import annotations

import ast
import asyncio
import json
import logging
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from simba_actors import Optimizer, events
from simba_actors.errors import ConfigError, MetricError, UnknownRunError
from simba_actors.events import (
    EVENT_TYPES,
    ActorCrashed,
    ActorRestarted,
    Event,
    ProgramPublished,
    RunFailed,
    RunFinished,
    RunResumed,
    StepClosed,
    StepOpened,
)
from simba_actors.events import RunStarted as Started
from simba_actors.observe import follow_events
from simba_actors.observe.wording import described
from simba_actors.store import Reader
from simba_actors.store.queries import run_queries
from tests.support.connections import left_open, open_connections
from tests.support.crashing import Injector, inject
from tests.support.quiz import questions
from tests.support.runs import events_of, finish, reach, small_config
from tests.support.waiting import PATIENCE

FOLLOW = """
import asyncio, json, sys
from simba_actors.observe import follow_events

async def main():
    async for event in follow_events(sys.argv[1], sys.argv[2]):
        print(json.dumps([event.seq, type(event).__name__]), flush=True)

asyncio.run(main())
"""


async def stored(store: str | Path, run_id: str) -> list[Event]:
    async with await Reader.open(store) as reader:
        return await reader.events(run_id)


async def test_events_are_replayed_then_followed_without_a_gap(tmp_path: Path) -> None:
    config = small_config(tmp_path / "simba.db")
    async with await Optimizer.start(config) as optimizer:
        early = [event.seq for event in await events_of(optimizer, Event)]
        late = [event.seq for event in await events_of(optimizer, Event, after=5)]
    assert early == list(range(1, len(early) + 1))
    assert late == early[5:]


async def test_another_process_follows_a_run_to_its_end(tmp_path: Path) -> None:
    config = small_config(tmp_path / "simba.db")
    async with await Optimizer.start(config) as optimizer:
        follower = await asyncio.create_subprocess_exec(
            sys.executable, "-c", FOLLOW, config.store, optimizer.run_id, stdout=subprocess.PIPE
        )
        output, _ = await asyncio.wait_for(follower.communicate(), PATIENCE)
        followed = [json.loads(line) for line in output.splitlines()]
        await optimizer.result(PATIENCE)
        assert followed == [[event.seq, type(event).__name__] for event in await stored(config.store, optimizer.run_id)]
        assert followed[-1][1] == "RunFinished"


async def test_following_an_unknown_run_is_an_error(tmp_path: Path) -> None:
    await finish(small_config(tmp_path / "simba.db"))
    with pytest.raises(UnknownRunError):
        await anext(follow_events(tmp_path / "simba.db", "another"))


async def test_a_slow_reader_does_not_slow_the_run(tmp_path: Path) -> None:
    async with await Optimizer.start(small_config(tmp_path / "simba.db")) as optimizer:
        seen: list[Event] = []
        async with asyncio.timeout(PATIENCE):
            async for event in optimizer.events():
                await optimizer.result(PATIENCE)  # The run ends, this reader is at its first event.
                seen.append(event)
    assert isinstance(seen[-1], RunFinished)


async def test_callbacks_hear_every_event_in_order(tmp_path: Path) -> None:
    heard: list[Event] = []

    async def listen(event: Event) -> None:
        heard.append(event)

    also: list[Event] = []
    config = small_config(tmp_path / "simba.db", callbacks=[listen, also.append])
    run_id = (await finish(config)).run_id
    assert heard == also == await stored(config.store, run_id)


async def test_callbacks_hear_of_what_is_published_after_the_run_is_over(tmp_path: Path) -> None:
    heard: list[Event] = []
    async with Optimizer.start(small_config(tmp_path / "simba.db", callbacks=[heard.append])) as optimizer:
        await optimizer.result(PATIENCE)
        await optimizer.publish()
    assert isinstance(heard[-1], ProgramPublished)


async def test_a_callback_whose_start_raises_is_logged_and_not_called(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def started(self, optimizer: Optimizer) -> None:
            raise ValueError(f"I do not like {optimizer.run_id}")

        def __call__(self, event: Event) -> None:
            raise AssertionError("called")

    await finish(small_config(tmp_path / "simba.db", run_id="run", callbacks=[Broken()]))
    assert "I do not like run" in caplog.text
    assert "called" not in [record.getMessage() for record in caplog.records]


async def test_a_callback_that_raises_is_logged_and_not_called_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    calls = 0

    def fail(event: Event) -> None:
        nonlocal calls
        calls += 1
        raise ValueError("no event pleases me")

    await finish(small_config(tmp_path / "simba.db", callbacks=[fail]))
    messages = [record.getMessage() for record in caplog.records if record.name == "simba_actors.observe.feed"]
    assert calls == 1
    assert len(messages) == 1
    assert "fail raised" in messages[0]


async def test_a_callback_that_exits_does_not_end_the_host(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def leave(event: Event) -> None:
        sys.exit("enough")

    await finish(small_config(tmp_path / "simba.db", callbacks=[leave]))
    assert "leave raised" in caplog.text


@pytest.mark.usefixtures("short_farewell")
async def test_a_callback_that_hangs_does_not_keep_a_run_from_stopping(tmp_path: Path) -> None:
    async def hang(event: Event) -> None:
        await asyncio.Event().wait()

    await finish(small_config(tmp_path / "simba.db", callbacks=[hang]))


@pytest.mark.usefixtures("short_farewell")
async def test_a_callback_that_is_ended_leaves_the_store_closed(tmp_path: Path) -> None:
    called = asyncio.Event()

    async def hang(event: Event) -> None:
        called.set()
        await asyncio.Event().wait()

    before = open_connections()
    optimizer = await Optimizer.start(small_config(tmp_path / "simba.db", callbacks=[hang]))
    await asyncio.wait_for(called.wait(), PATIENCE)
    await optimizer.stop()
    assert left_open(before) == set()


async def test_callbacks_hear_of_a_resumed_run_only_what_is_new(tmp_path: Path) -> None:
    config = small_config(tmp_path / "simba.db")
    async with await Optimizer.start(config) as optimizer:
        await reach(optimizer, StepClosed)
    heard: list[Event] = []
    await finish(replace(config, callbacks=[heard.append]))
    assert isinstance(heard[0], RunResumed)


def test_a_callback_must_be_callable(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'nothing' is not callable"):
        small_config(tmp_path / "simba.db", callbacks=["nothing"])


@pytest.mark.parametrize("actor", ["pool_keeper", "sampler", "coordinator"])
async def test_a_crash_and_the_restarts_after_it_are_events(
    actor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from simba_actors.hosting.assembly import TEAM

    inject(monkeypatch, TEAM[actor], Injector(at=[4]))
    config = small_config(tmp_path / "simba.db")
    result = await finish(config)
    events = await stored(config.store, result.run_id)
    crashes = [event for event in events if isinstance(event, ActorCrashed)]
    restarted = [event.actor for event in events if isinstance(event, ActorRestarted)]
    assert [(crash.actor, crash.reason) for crash in crashes] == [(actor, "InjectedCrashError: before message 4")]
    assert restarted == list(TEAM)[list(TEAM).index(actor) :]


async def test_a_run_that_fails_tells_why(tmp_path: Path) -> None:
    def fails_later(example: Any, prediction: Any, trace: Any = None) -> float:
        if example.question in {row.question for row in questions(8)[4:]}:
            raise KeyError("no such label")
        return 1.0

    config = small_config(tmp_path / "simba.db", metric=fails_later)
    async with await Optimizer.start(config) as optimizer:
        with pytest.raises(MetricError):
            await optimizer.result(PATIENCE)
        events = await events_of(optimizer, Event)
    [failed] = [event for event in events if isinstance(event, RunFailed)]
    assert "no such label" in failed.reason


async def test_gauges_of_the_actors_are_stored_up_to_the_end(tmp_path: Path) -> None:
    config = small_config(tmp_path / "simba.db")
    result = await finish(config)
    async with await Reader.open(config.store) as store:
        gauges = {gauge.actor: gauge for gauge in await store.ask(run_queries.gauges, result.run_id)}
    assert gauges["pool_keeper"].handled > 0
    assert "0 rollouts queued" in gauges["sampler"].state
    assert "2 steps closed" in gauges["coordinator"].state


async def test_each_step_is_logged_in_one_line_at_info(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="simba_actors"):
        await finish(small_config(tmp_path / "simba.db"))
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("simba_actors")]
    assert [line.partition(":")[0] for line in lines] == ["step 1", "step 2", "finished"]


def test_a_line_about_an_event_counts_steps_from_one() -> None:
    assert described(StepOpened(step=0, examples=(3, 0))) == "StepOpened step=1 examples=(3, 0)"


async def test_every_stored_event_is_read_as_it_was_committed(tmp_path: Path) -> None:
    config = small_config(tmp_path / "simba.db")
    async with await Optimizer.start(config) as optimizer:
        events = await events_of(optimizer, Event)
    assert isinstance(events[0], Started)
    assert all(event.run_id == optimizer.run_id and event.time > 0 for event in events)
    assert {type(event).__name__ for event in events} <= set(EVENT_TYPES)


def test_every_field_of_an_event_has_a_docstring() -> None:
    source = Path(events.__file__).read_text(encoding="utf-8")
    classes = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    undocumented = [
        f"{cls.name}.{ast.unparse(field.target)}"
        for cls in classes
        for field, after in zip(cls.body, [*cls.body[1:], None], strict=True)
        if isinstance(field, ast.AnnAssign)
        and not (isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant))
    ]
    assert undocumented == []


def test_the_docstring_of_the_module_lists_every_event() -> None:
    listed = (events.__doc__ or "").partition("By subject:")[2].partition("An event is")[0]
    assert set(re.findall(r"\b[A-Z]\w+", listed)) == set(EVENT_TYPES)
