"""Requests from other processes to the owner of a run."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

from simba_actors import Optimizer
from simba_actors.events import RunPaused, RunResumed, StepClosed
from simba_actors.store.requests import send_request
from tests.support.quiz import quiz_script
from tests.support.runs import finish, reach, small_config
from tests.support.scripted_lm import ScriptedLM, slow_after
from tests.support.waiting import PATIENCE


async def test_a_request_names_who_asked_and_why(tmp_path: Path) -> None:
    store = tmp_path / "simba.db"
    lm = ScriptedLM(quiz_script, latency=slow_after(100))  # Enough for a step, and the run does not end.
    config = small_config(store, run_id="live", lm=lm, max_steps=40)
    async with await Optimizer.start(config) as optimizer:
        await reach(optimizer, StepClosed)
        await send_request(store, "live", "pause", reason="the endpoint is needed", by="ada@laptop")
        assert (await reach(optimizer, RunPaused)).reason == "the endpoint is needed (asked by ada@laptop)"
        await send_request(store, "live", "resume", reason="done", by="ada@laptop")
        await reach(optimizer, RunResumed)


async def test_a_request_to_an_owner_that_was_killed_is_not_for_the_next(tmp_path: Path) -> None:
    store = tmp_path / "simba.db"
    async with await Optimizer.start(small_config(store, run_id="live", max_steps=3)) as optimizer:
        await reach(optimizer, StepClosed)
    with closing(sqlite3.connect(store, isolation_level=None)) as db:
        db.execute(
            "INSERT INTO requests (run_id, kind, reason, requester, time) VALUES ('live', 'stop', '', 'ada@laptop', 0)"
        )
    await asyncio.wait_for(finish(small_config(store, run_id="live", max_steps=3)), PATIENCE)
