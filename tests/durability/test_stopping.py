"""A run can be paused and stopped however slow the LM is, and continues later as if it had not been."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from simba_actors import Optimizer, OptimizerConfig
from simba_actors.errors import RunStoppedError
from simba_actors.events import RunPaused, TrajectorySampled
from simba_actors.hosting.assembly import TEAM
from tests.support.children import start_child
from tests.support.openai_server import OpenAIServer, lm_at
from tests.support.quiz import quiz_script
from tests.support.runs import findings, finish, reach, settle, small_config
from tests.support.scripted_lm import CallCounter, ScriptedLM
from tests.support.waiting import PATIENCE, ended, until

FOR_EVER = 3600.0


@pytest.fixture
def hanging() -> Iterator[OpenAIServer]:
    with OpenAIServer(quiz_script, latency=FOR_EVER) as server:
        yield server


def config_for(address: str, store: Path) -> OptimizerConfig:
    return small_config(store, run_id="run", lm=lm_at(address), prompt_model=lm_at(address))


async def assert_goes_on(server: OpenAIServer, config: OptimizerConfig, tmp_path: Path) -> None:
    """Assert that the run ends like one that was never stopped."""
    server.latency = 0.0
    await finish(config)
    whole = small_config(tmp_path / "whole.db", run_id="run", lm=config.lm, prompt_model=config.prompt_model)
    await finish(whole)
    assert await findings(config, "run") == await findings(whole, "run")


async def calls_are_in_flight(server: OpenAIServer) -> None:
    await until(server.called.is_set)


async def live(address: str, store: Path) -> None:
    await finish(config_for(address, store))


async def test_a_pause_takes_effect_while_calls_hang(hanging: OpenAIServer, tmp_path: Path) -> None:
    config = config_for(hanging.address, tmp_path / "simba.db")
    async with await Optimizer.start(config) as optimizer:
        await calls_are_in_flight(hanging)
        async with asyncio.timeout(PATIENCE):
            await optimizer.pause("for the night")
            assert (await optimizer.status()).status == "paused"
    await assert_goes_on(hanging, config, tmp_path)


async def test_a_paused_run_sends_no_more_calls_and_continues_when_resumed(tmp_path: Path) -> None:
    calls = CallCounter()
    config = small_config(tmp_path / "simba.db", run_id="run", lm=ScriptedLM(quiz_script, callbacks=[calls]))
    async with await Optimizer.start(config) as optimizer:
        await reach(optimizer, TrajectorySampled)
        await optimizer.pause()
        made = calls.made
        await settle(optimizer)
        assert (await reach(optimizer, RunPaused)).reason == "paused by the user"
        assert calls.made == made
        await optimizer.resume()
        await optimizer.result(PATIENCE)
    whole = small_config(tmp_path / "whole.db", run_id="run")
    await finish(whole)
    assert await findings(config, "run") == await findings(whole, "run")


async def test_stop_does_not_wait_for_calls_that_hang(hanging: OpenAIServer, tmp_path: Path) -> None:
    config = config_for(hanging.address, tmp_path / "simba.db")
    optimizer = await Optimizer.start(config)
    await calls_are_in_flight(hanging)
    async with asyncio.timeout(PATIENCE):
        await optimizer.stop()
    with pytest.raises(RunStoppedError):
        await optimizer.result(PATIENCE)
    await assert_goes_on(hanging, config, tmp_path)


async def test_a_second_stop_waits_for_the_end_that_a_cancelled_one_began(tmp_path: Path) -> None:
    optimizer = await Optimizer.start(small_config(tmp_path / "simba.db"))
    first = asyncio.create_task(optimizer.stop())
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await optimizer.stop()
    assert [optimizer._run.teammates.registry.whereis(name) for name in TEAM] == [None] * len(TEAM)


async def test_stop_does_not_wait_for_threads_that_hang(tmp_path: Path) -> None:
    release, hangs = threading.Event(), threading.Event()

    def metric(example: Any, prediction: Any) -> bool:
        if prediction.get("answer") != example.answer:
            hangs.set()
            release.wait(FOR_EVER)
        return True

    optimizer = await Optimizer.start(small_config(tmp_path / "simba.db", metric=metric))
    await until(hangs.is_set)
    try:
        async with asyncio.timeout(PATIENCE):
            await optimizer.stop()
    finally:
        release.set()


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 1), (signal.SIGTERM, -signal.SIGTERM)])
async def test_a_signal_ends_a_process_whose_calls_hang(
    number: signal.Signals, exit_code: int, hanging: OpenAIServer, tmp_path: Path
) -> None:
    config = config_for(hanging.address, tmp_path / "simba.db")
    child = start_child(live, hanging.address, config.store)
    await calls_are_in_flight(hanging)
    assert child.pid is not None
    os.kill(child.pid, number)
    assert await asyncio.to_thread(ended, child) == exit_code
    await assert_goes_on(hanging, config, tmp_path)


def test_the_end_of_the_loop_ends_a_run_that_was_not_stopped(hanging: OpenAIServer, tmp_path: Path) -> None:
    config = config_for(hanging.address, tmp_path / "simba.db")
    kept: list[Optimizer] = []

    async def host() -> None:
        kept.append(await Optimizer.start(config))
        await calls_are_in_flight(hanging)

    asyncio.run(asyncio.wait_for(host(), PATIENCE))
    asyncio.run(assert_goes_on(hanging, config, tmp_path))


async def test_a_run_that_has_ended_is_freed_while_connections_that_it_opened_stay_open(tmp_path: Path) -> None:
    with OpenAIServer(quiz_script) as server:
        lm = server.lm()
        optimizer = await Optimizer.start(small_config(tmp_path / "simba.db", lm=lm, prompt_model=lm))
        await optimizer.result(PATIENCE)
        await optimizer.stop()
        ended_run = weakref.ref(optimizer)
        del optimizer
        await until(lambda: is_freed(ended_run))


def is_freed(optimizer: weakref.ref[Optimizer]) -> bool:
    gc.collect()
    return optimizer() is None
