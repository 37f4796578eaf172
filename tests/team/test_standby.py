"""Several processes start the same run: one works on it, the others stand by and take it over."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from dspy.utils.exceptions import LMAuthError

from simba_actors import Optimizer, OptimizerConfig
from simba_actors.errors import RunError, RunOwnedError, RunPausedError, RunStoppedError
from simba_actors.events import RoleChanged, RunPaused, RunResumed, TrajectorySampled
from simba_actors.hosting import hosted_run
from simba_actors.hosting.hosted_run import HostedRun
from simba_actors.store.requests import send_request
from tests.support.children import start_child
from tests.support.openai_server import OpenAIServer, lm_at
from tests.support.quiz import quiz_script
from tests.support.runs import events_of, findings, finish, reach, small_config
from tests.support.scripted_lm import Ask, ScriptedLM
from tests.support.waiting import PATIENCE, block_until, kill, until


async def work(address: str, store: Path) -> None:
    lm = lm_at(address)
    await finish(small_config(store, run_id="run", lm=lm, prompt_model=lm))


async def said(optimizer: Optimizer, reason: str) -> None:
    """Wait until the run is paused for a reason that begins with this text."""
    await reach(optimizer, RunPaused, lambda event: event.reason.startswith(reason))


async def has_role(optimizer: Optimizer, role: str) -> None:
    await until(lambda: optimizer.role == role)


async def roles(optimizer: Optimizer) -> list[str]:
    return [event.role for event in await events_of(optimizer, RoleChanged)]


def config_of(store: Path, **changes: Any) -> OptimizerConfig:
    return small_config(store, run_id="run", **changes)


async def underway(optimizer: Optimizer) -> None:
    """Wait until the run has its first trajectory, and pause it."""
    await reach(optimizer, TrajectorySampled)
    await optimizer.pause("held by the test")


async def lose(hosted: HostedRun) -> None:
    """Let the run go, as if another process had taken it and left it, and wait until this process has noticed."""
    run = hosted.run
    with closing(sqlite3.connect(run.store)) as db, db:
        db.execute("UPDATE runs SET generation = generation + 1, owner = NULL, owner_token = NULL")
    noticing = asyncio.ensure_future(run.teammates.commit([]))
    await until(lambda: run.gate.failure.error is not None)
    noticing.cancel()
    await asyncio.gather(noticing, return_exceptions=True)


async def test_a_standby_takes_over_when_the_owner_stops(tmp_path: Path) -> None:
    whole = config_of(tmp_path / "whole.db")
    await finish(whole)
    config = config_of(tmp_path / "simba.db")
    first = await Optimizer.start(config, standby=True)
    await underway(first)
    second = await Optimizer.start(config, standby=True)
    assert (first.role, second.role) == ("owner", "standby")
    await first.stop()
    await second.result(PATIENCE)
    assert second.role == "owner"
    assert await roles(second) == ["standby", "owner"]
    await second.stop()
    assert await findings(config, "run") == await findings(whole, "run")


async def test_a_standby_takes_over_when_the_owner_is_killed(tmp_path: Path) -> None:
    with OpenAIServer(quiz_script, latency=3600.0) as server:
        config = config_of(tmp_path / "simba.db", lm=server.lm(), prompt_model=server.lm())
        child = start_child(work, server.address, config.store)
        block_until(server.called.is_set)
        async with await Optimizer.start(config, standby=True) as optimizer:
            assert optimizer.role == "standby"
            kill(child)
            server.latency = 0.0
            await has_role(optimizer, "owner")
            await optimizer.result(PATIENCE)


async def test_one_of_several_standbys_takes_over_and_all_get_the_result(tmp_path: Path) -> None:
    config = config_of(tmp_path / "simba.db")
    first = await Optimizer.start(config, standby=True)
    await underway(first)
    others = [await Optimizer.start(config, standby=True) for _ in range(3)]
    await first.stop()
    results = [await other.result(PATIENCE) for other in others]
    assert sorted(other.role for other in others) == ["owner", "standby", "standby"]
    assert len({result.score for result in results}) == 1
    for other in others:
        await other.stop()


async def test_a_standby_answers_while_another_process_works(tmp_path: Path) -> None:
    config = config_of(tmp_path / "simba.db")
    async with await Optimizer.start(config) as owner:
        await underway(owner)
        async with await Optimizer.start(config, standby=True) as standby:
            await reach(standby, TrajectorySampled)
            assert (await standby.status()).run_id == "run"
            assert (await standby.publish(0, reason="by a standby")).version == 1
            await owner.resume()
            await owner.result(PATIENCE)
            result = await standby.result(PATIENCE)
            assert (result.run_id, standby.role) == ("run", "standby")


async def test_a_standby_passes_pause_and_resume_on_to_the_owner(tmp_path: Path) -> None:
    config = config_of(tmp_path / "simba.db")
    async with await Optimizer.start(config) as owner:
        await underway(owner)
        async with await Optimizer.start(config, standby=True) as standby:
            await standby.pause("tea")
            await said(owner, "tea (asked by ")
            await standby.resume()
            await reach(owner, RunResumed)
            await owner.result(PATIENCE)


async def test_to_pause_a_run_that_its_owner_has_finished_does_nothing(tmp_path: Path) -> None:
    owner = await Optimizer.start(config_of(tmp_path / "simba.db"))
    standby = await Optimizer.start(config_of(tmp_path / "simba.db"), standby=True)
    await owner.result(PATIENCE)
    await owner.stop()
    await standby.pause()
    await standby.resume()
    await standby.stop()


async def test_a_standby_says_that_another_is_about_to_take_the_run_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: Any, **__: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(hosted_run, "wait_until_free", never)
    owner = await Optimizer.start(config_of(tmp_path / "simba.db"))
    standby = await Optimizer.start(config_of(tmp_path / "simba.db"), standby=True)
    await reach(owner, TrajectorySampled)
    await owner.stop()
    with pytest.raises(RunError, match="try again when a standby has taken it over"):
        await standby.pause()
    await standby.stop()


async def test_a_standby_does_not_wait_for_the_result_of_a_run_that_is_paused_for_access(tmp_path: Path) -> None:
    refuses = True

    def script(ask: Ask) -> Any:
        if refuses:
            raise LMAuthError("a bad key")
        return quiz_script(ask)

    config = config_of(tmp_path / "simba.db", lm=ScriptedLM(script))
    async with await Optimizer.start(config) as owner, await Optimizer.start(config, standby=True) as standby:
        with pytest.raises(RunPausedError, match=r"paused for access: .*a bad key.*Call resume\(\)"):
            await standby.result(PATIENCE)
        refuses = False
        await standby.resume()
        await reach(owner, RunResumed)
        await owner.result(PATIENCE)
        assert (await standby.result(PATIENCE)).run_id == "run"


async def test_a_standby_knows_the_latest_cause_of_a_pause(tmp_path: Path) -> None:
    def refusing(ask: Ask) -> Any:
        raise LMAuthError("a bad key")

    config = config_of(tmp_path / "simba.db", lm=ScriptedLM(refusing))
    async with await Optimizer.start(config) as owner, await Optimizer.start(config, standby=True) as standby:
        pausing = standby._hosted.run.gate.pausing
        await until(lambda: pausing.cause == "access")
        await owner.pause("tea")
        await until(lambda: pausing.cause == "user")
        assert pausing.reason is not None
        assert pausing.reason.startswith("tea")


async def test_a_standby_that_is_stopped_leaves_the_owner_at_work(tmp_path: Path) -> None:
    config = config_of(tmp_path / "simba.db")
    async with await Optimizer.start(config) as owner:
        await underway(owner)
        standby = await Optimizer.start(config, standby=True)
        await standby.stop()
        with pytest.raises(RunStoppedError):
            await standby.result(PATIENCE)
        await owner.resume()
        await owner.result(PATIENCE)


async def test_without_standby_a_run_that_another_process_has_open_is_refused(tmp_path: Path) -> None:
    async with await Optimizer.start(config_of(tmp_path / "simba.db"), standby=True):
        with pytest.raises(RunOwnedError):
            await Optimizer.start(config_of(tmp_path / "simba.db"))


async def test_an_owner_that_lost_the_run_stands_by(tmp_path: Path) -> None:
    config = config_of(tmp_path / "simba.db")
    async with await Optimizer.start(config, standby=True) as optimizer:
        await reach(optimizer, TrajectorySampled)
        await optimizer.pause()
        await lose(optimizer._hosted)
        await has_role(optimizer, "standby")
        await has_role(optimizer, "owner")
        await optimizer.resume()
        await optimizer.result(PATIENCE)


async def test_a_standby_that_loses_the_run_while_it_takes_it_over_stands_by_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(tmp_path / "simba.db")
    start_team = HostedRun._start_team

    async def start_and_lose(run: HostedRun) -> None:
        monkeypatch.setattr(HostedRun, "_start_team", start_team)
        await start_team(run)
        await lose(run)

    owner = await Optimizer.start(config, standby=True)
    await underway(owner)
    async with await Optimizer.start(config, standby=True) as standby:
        monkeypatch.setattr(HostedRun, "_start_team", start_and_lose)
        await owner.stop()
        await standby.result(PATIENCE)
        assert await roles(standby) == ["standby", "standby", "owner"]


async def test_a_request_to_stop_stops_the_run_and_says_who_asked(tmp_path: Path) -> None:
    config = config_of(tmp_path / "simba.db")
    async with await Optimizer.start(config) as optimizer:
        await reach(optimizer, TrajectorySampled)
        await optimizer.pause()
        await send_request(config.store, "run", "stop", reason="a deploy", by="ada")
        with pytest.raises(RunStoppedError, match=r"was stopped: a deploy \(asked by ada\)"):
            await optimizer.result(PATIENCE)
    await finish(config)


async def stopped_at_work(store: Path) -> tuple[Optimizer, Optimizer]:
    """Return an owner and a standby of a run that another process has asked to stop."""
    config = config_of(store)
    owner = await Optimizer.start(config, standby=True)
    await underway(owner)
    standby = await Optimizer.start(config, standby=True)
    await send_request(store, "run", "stop", reason="a deploy", by="ada")
    await has_role(owner, "standby")
    return owner, standby


async def test_standbys_leave_a_run_that_a_request_stopped_alone_until_another_resumes_it(
    tmp_path: Path,
) -> None:
    store = tmp_path / "simba.db"
    owner, standby = await stopped_at_work(store)
    with pytest.raises(TimeoutError, match="is paused after"):
        await standby.result(timeout=1)
    status = await standby.status()
    assert (status.status, status.reason) == ("paused", "stopped: a deploy (asked by ada)")
    assert (owner.role, standby.role) == ("standby", "standby")
    await send_request(store, "run", "resume")
    results = [await optimizer.result(PATIENCE) for optimizer in (owner, standby)]
    assert results[0].score == results[1].score
    assert sorted([owner.role, standby.role]) == ["owner", "standby"]
    await owner.stop()
    await standby.stop()


async def test_a_run_that_can_not_stand_by_after_a_request_to_stop_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise OSError("no room")

    config = config_of(tmp_path / "simba.db")
    async with await Optimizer.start(config, standby=True) as optimizer:
        await underway(optimizer)
        monkeypatch.setattr(hosted_run, "assemble", fail)
        await send_request(config.store, "run", "stop", reason="a deploy", by="ada")
        with pytest.raises(RunError, match="'run' was not taken over"):
            await optimizer.result(PATIENCE)


async def test_a_worker_that_starts_after_a_request_to_stop_stands_by(tmp_path: Path) -> None:
    store = tmp_path / "simba.db"
    for optimizer in await stopped_at_work(store):
        await optimizer.stop()
    async with Optimizer.start(config_of(store), standby=True) as worker:
        assert worker.role == "standby"
        await worker.resume()
        await worker.result(PATIENCE)


async def test_a_run_that_was_stopped_by_a_request_continues_when_it_is_started_without_standby(tmp_path: Path) -> None:
    store = tmp_path / "simba.db"
    for optimizer in await stopped_at_work(store):
        await optimizer.stop()
    await finish(config_of(store))
