"""Pausing, resuming and stopping a run from the dashboard of another process, through the store."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

from simba_actors import Optimizer
from simba_actors.errors import RunStoppedError
from simba_actors.events import RunPaused, RunResumed, TrajectorySampled
from simba_actors.web import dashboard
from tests.support.quiz import quiz_script
from tests.support.runs import finish, reach, small_config
from tests.support.scripted_lm import ScriptedLM, slow_after
from tests.support.waiting import PATIENCE


def browser(store: Path, *, actions: bool = True) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(dashboard(store, actions=actions))
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1")


async def press(client: httpx.AsyncClient, button: str) -> None:
    """Press a button of the run's page."""
    page = await client.get("/runs/live")
    found = re.search(rf'formaction="([^"]+)">{button}<', page.text)
    assert found is not None
    assert (await client.post(found[1])).status_code == 303


async def test_a_run_is_paused_resumed_and_stopped_from_its_page(tmp_path: Path) -> None:
    store = tmp_path / "simba.db"
    config = small_config(store, run_id="live", lm=ScriptedLM(quiz_script, latency=slow_after(20)))
    async with Optimizer.start(config) as optimizer, browser(store) as client:
        await reach(optimizer, TrajectorySampled)
        await press(client, "Pause")
        assert (await reach(optimizer, RunPaused)).reason == "asked by the dashboard"
        await press(client, "Resume")
        await reach(optimizer, RunResumed)
        await press(client, "Stop")
        with pytest.raises(RunStoppedError, match="asked by the dashboard"):
            await optimizer.result(PATIENCE)


async def test_the_page_of_a_run_that_no_process_has_open_says_so(tmp_path: Path) -> None:
    store = tmp_path / "simba.db"
    notice = "No process has it open: it continues once one starts it with the same config."
    config = small_config(store, run_id="live", lm=ScriptedLM(quiz_script, latency=slow_after(20)))
    async with Optimizer.start(config) as optimizer, browser(store) as client:
        await reach(optimizer, TrajectorySampled)
        assert notice not in (await client.get("/runs/live")).text
        await optimizer.stop()
        assert notice in (await client.get("/runs/live")).text
        assert "open in no process" in (await client.get("/")).text


async def test_a_run_that_is_finished_can_not_be_asked(tmp_path: Path) -> None:
    await finish(small_config(tmp_path / "simba.db", run_id="live", max_steps=1))
    async with browser(tmp_path / "simba.db") as client:
        assert "formaction" not in (await client.get("/runs/live")).text
        refused = await client.post("/runs/live/ask/pause")
        unknown = await client.post("/runs/live/ask/delete")
    assert (refused.status_code, "is finished, so there is nothing to pause" in refused.text) == (409, True)
    assert unknown.status_code == 400


async def test_without_actions_nothing_can_be_asked(tmp_path: Path) -> None:
    async with Optimizer.start(small_config(tmp_path / "simba.db", run_id="live")) as optimizer:
        await optimizer.pause()
        async with browser(tmp_path / "simba.db", actions=False) as client:
            assert "formaction" not in (await client.get("/runs/live")).text
            assert (await client.post("/runs/live/ask/pause")).status_code == 404
