"""A metric that fails stops the run, which can continue once the metric is fixed."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

import pytest

from simba_actors import Optimizer
from simba_actors.errors import MetricError, RunError
from simba_actors.events import TrajectorySampled
from simba_actors.store import Reader
from simba_actors.team.messages import COORDINATOR
from tests.support.quiz import exact, quiz_script
from tests.support.runs import asks_of, findings, finish, settle, small_config
from tests.support.scripted_lm import CallCounter, ScriptedLM
from tests.support.waiting import PATIENCE


@functools.wraps(exact)
def fails_on_blue(example: Any, prediction: Any, trace: Any = None) -> bool:
    wrong = prediction.answer == "blue" != example.answer
    return bool(1 / (not wrong)) and exact(example, prediction)


async def test_a_broken_metric_is_found_before_any_call_is_made(tmp_path: Path) -> None:
    config = small_config(tmp_path / "simba.db", metric=lambda example, prediction: None)
    with pytest.raises(MetricError, match="None"):
        await Optimizer.start(config)
    assert not asks_of(config.lm)


async def test_a_metric_that_fails_later_stops_the_run_with_its_own_error(tmp_path: Path) -> None:
    config = small_config(tmp_path / "simba.db", metric=fails_on_blue)
    async with await Optimizer.start(config) as optimizer:
        with pytest.raises(MetricError, match="ZeroDivisionError") as raised:
            await optimizer.result(PATIENCE)
        assert isinstance(raised.value.__cause__, ZeroDivisionError)
        status = await optimizer.status()
    assert (status.status, status.reason) == ("failed", str(raised.value))


async def test_a_metric_that_exits_ends_the_run_and_not_the_host(tmp_path: Path) -> None:
    def exits(example: Any, prediction: Any) -> bool:
        sys.exit("enough")

    async with await Optimizer.start(small_config(tmp_path / "simba.db", metric=exits)) as optimizer:
        with pytest.raises(MetricError, match="SystemExit"):
            await optimizer.result(PATIENCE)


async def test_a_metric_whose_error_can_not_be_encoded_ends_the_run_as_others_do(tmp_path: Path) -> None:
    def broken(example: Any, prediction: Any) -> bool:
        raise ValueError("half a pair: \ud83d")

    async with await Optimizer.start(small_config(tmp_path / "simba.db", metric=broken)) as optimizer:
        with pytest.raises(MetricError, match="half a pair"):
            await optimizer.result(PATIENCE)
        status = await optimizer.status()
    assert (status.status, "half a pair: \\ud83d" in (status.reason or "")) == ("failed", True)


async def test_a_run_continues_when_its_metric_is_fixed(tmp_path: Path) -> None:
    whole = small_config(tmp_path / "whole.db", run_id="run")
    await finish(whole)
    config = small_config(tmp_path / "simba.db", run_id="run", metric=fails_on_blue)
    with pytest.raises(MetricError):
        await finish(config)
    await finish(small_config(tmp_path / "simba.db", run_id="run", metric=exact))
    assert await findings(config, "run") == await findings(whole, "run")


async def test_a_failed_run_does_not_continue_when_resumed(tmp_path: Path) -> None:
    calls = CallCounter()
    config = small_config(tmp_path / "simba.db", metric=fails_on_blue, lm=ScriptedLM(quiz_script, callbacks=[calls]))
    async with await Optimizer.start(config) as optimizer:
        with pytest.raises(MetricError) as cause:
            await optimizer.result(PATIENCE)
        made = calls.made
        with pytest.raises(RunError, match=r"has failed: .*ZeroDivisionError.*\. Start it again to continue") as raised:
            await optimizer.resume()
        await settle(optimizer)
        assert calls.made == made
        assert raised.value.__cause__ is cause.value


async def test_a_failed_run_stays_failed_when_its_coordinator_is_killed(tmp_path: Path) -> None:
    calls = CallCounter()
    config = small_config(tmp_path / "simba.db", metric=fails_on_blue, lm=ScriptedLM(quiz_script, callbacks=[calls]))
    async with await Optimizer.start(config) as optimizer:
        with pytest.raises(MetricError) as raised:
            await optimizer.result(PATIENCE)
        made = calls.made
        coordinator = optimizer._run.teammates.registry.whereis(COORDINATOR)
        assert coordinator is not None
        coordinator.kill()
        await settle(optimizer)
        status = await optimizer.status()
    assert status.restarts == {COORDINATOR: 1}
    assert (status.status, status.reason, calls.made) == ("failed", str(raised.value), made)


async def test_a_metric_that_fails_scores_0_if_the_config_says_so(tmp_path: Path) -> None:
    config = small_config(tmp_path / "simba.db", metric=fails_on_blue, run_id="run", on_metric_error="score 0")
    await finish(config)
    async with await Reader.open(config.store) as reader:
        events = await reader.events("run")
    failed = [event for event in events if isinstance(event, TrajectorySampled) and event.error is not None]
    assert failed
    assert all("ZeroDivisionError" in str(event.error) and event.score == 0 for event in failed)
