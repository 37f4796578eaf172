"""A provider's faults cost time, never a score."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from simba_actors import Governor, Optimizer, OptimizerConfig, Retry
from simba_actors.events import CallRetried, RunPaused, TrajectorySampled
from simba_actors.store import Reader
from tests.support.openai_server import Faults, OpenAIServer
from tests.support.quiz import quiz_script
from tests.support.runs import findings, finish, reach, small_config
from tests.support.waiting import PATIENCE

MIX = Faults(rate_limited=0.3, server_error=0.1, resets=0.05, cut=0.05, hangs=0.02)
DAY = 86_400.0
HASTY = Retry(base=0.01, longest=0.1, grace_period=0.3)


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(quiz_script) as server:
        yield server


def config_for(server: OpenAIServer, store: Path, retry: Retry = HASTY, **changes: Any) -> OptimizerConfig:
    lms = {"lm": server.lm(), "prompt_model": server.lm(), "teacher_lm": server.lm(temperature=0.4)}
    return small_config(store, run_id="run", policy="dspy", governor=Governor(retry=retry), **lms, **changes)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The findings of a run without faults."""
    with OpenAIServer(quiz_script) as server:
        config = config_for(server, tmp_path_factory.mktemp("faultless") / "simba.db")
        asyncio.run(finish(config))
        return asyncio.run(findings(config, "run"))


@pytest.mark.parametrize("seed", [3, 4])
async def test_a_mix_of_faults_changes_no_score(seed: int, expected: dict[str, Any], tmp_path: Path) -> None:
    with OpenAIServer(quiz_script, faults=MIX, seed=seed) as faulty:
        patient = Retry(base=0.01, longest=0.1)
        config = config_for(faulty, tmp_path / "faulty.db", patient, rollout_timeout=3.0)
        async with await Optimizer.start(config) as optimizer:
            await optimizer.result(PATIENCE)
            await reach(optimizer, CallRetried)
    print(f"{faulty.fates.total()} calls: {dict(faulty.fates)}")
    assert await findings(config, "run") == expected


async def test_an_outage_pauses_the_run_which_then_continues_to_the_same_result(
    expected: dict[str, Any], server: OpenAIServer, tmp_path: Path
) -> None:
    config = config_for(server, tmp_path / "outage.db")
    async with await Optimizer.start(config) as optimizer:
        await reach(optimizer, TrajectorySampled)
        server.faults = Faults(down=True)
        paused = await reach(optimizer, RunPaused)
        status = await optimizer.status()
        assert (status.status, status.reason) == ("paused", paused.reason)
        assert "openai/quiz at 127.0.0.1" in paused.reason
        assert "Resume when it answers again" in paused.reason
        server.faults = Faults()
        await optimizer.resume()
        await optimizer.result(PATIENCE)
    assert await findings(config, "run") == expected


async def test_an_outage_that_all_calls_in_flight_meet_pauses_the_run_once(
    server: OpenAIServer, tmp_path: Path
) -> None:
    config = config_for(server, tmp_path / "outage.db")
    async with await Optimizer.start(config) as optimizer:
        await reach(optimizer, TrajectorySampled)
        server.faults = Faults(down=True)
        await reach(optimizer, RunPaused)
        server.faults = Faults()
        await optimizer.resume()
        await optimizer.result(PATIENCE)
    async with await Reader.open(config.store) as reader:
        events = await reader.events("run")
    assert sum(isinstance(event, RunPaused) for event in events) == 1


@pytest.mark.parametrize(("status", "error"), [(401, "LMAuthError"), (402, "LMBillingError")])
async def test_a_refused_key_or_account_pauses_the_run_at_once(
    status: int, error: str, expected: dict[str, Any], server: OpenAIServer, tmp_path: Path
) -> None:
    config = config_for(server, tmp_path / "refused.db")
    calls, server.faults = server.calls, Faults(status=status)
    async with await Optimizer.start(config) as optimizer:
        paused = await reach(optimizer, RunPaused)
        assert error in paused.reason
        assert server.calls - calls <= config.max_concurrency
        server.faults = Faults()
        await optimizer.resume()
        await optimizer.result(PATIENCE)
    assert await findings(config, "run") == expected


async def test_a_wait_of_a_day_that_the_provider_asks_for_pauses_the_run(
    expected: dict[str, Any], server: OpenAIServer, tmp_path: Path
) -> None:
    config = config_for(server, tmp_path / "day.db", Retry(base=0.01, longest=0.1))
    server.faults = Faults(rate_limited=1.0, retry_after=DAY)
    async with Optimizer.start(config) as optimizer:
        paused = await reach(optimizer, RunPaused)
        assert "asks to wait for 86400 s" in paused.reason
        server.faults = Faults()
        await optimizer.resume()
        await optimizer.result(PATIENCE)
    assert await findings(config, "run") == expected


async def test_resume_wakes_a_call_that_waits_for_a_day(server: OpenAIServer, tmp_path: Path) -> None:
    retry = Retry(base=0.01, longest=0.1, grace_period=2 * DAY)
    config = config_for(server, tmp_path / "day.db", retry, max_concurrency=1)
    server.faults = Faults(rate_limited=1.0, retry_after=DAY)
    async with Optimizer.start(config) as optimizer:
        await reach(optimizer, CallRetried)
        server.faults = Faults()
        await optimizer.pause()
        await optimizer.resume()
        assert (await optimizer.result(PATIENCE)).run_id == "run"


async def test_a_status_that_no_provider_documents_pauses_the_run(
    expected: dict[str, Any], server: OpenAIServer, tmp_path: Path
) -> None:
    config = config_for(server, tmp_path / "teapot.db")
    server.faults = Faults(status=418, text="I'm a teapot")
    async with Optimizer.start(config) as optimizer:
        paused = await reach(optimizer, RunPaused)
        assert "418" in paused.reason or "teapot" in paused.reason
        assert (await optimizer.status()).rollouts == 0
        server.faults = Faults()
        await optimizer.resume()
        await optimizer.result(PATIENCE)
    assert await findings(config, "run") == expected
