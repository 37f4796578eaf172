"""Blocks of calls that begin and end in different threads, tasks and contexts."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, copy_context
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI

from simba_actors.errors import PublicationError
from simba_actors.live import LiveProgram
from simba_actors.live.calls import LiveCall
from tests.support.live import answer, publish, sayer, start_canary
from tests.support.waiting import PATIENCE


@pytest.fixture
async def store(tmp_path: Path) -> Path:
    await publish(tmp_path / "simba.db", "old")
    await start_canary(tmp_path / "simba.db", "new", 0.5)
    return tmp_path / "simba.db"


async def test_a_block_may_end_in_another_context_than_it_began_in(store: Path) -> None:
    call = LiveProgram(sayer(), store=store).call(key="ann")
    Context().run(call.__enter__)
    Context().run(call.__exit__)


async def test_a_block_that_ended_elsewhere_is_over_where_it_was_known(store: Path) -> None:
    live = LiveProgram(sayer(), store=store)
    call = live.call(key="ann")
    context = copy_context()
    context.run(call.__enter__)
    copied = context.copy()
    copied.run(call.__exit__)
    copied.run(live, question="?")
    with pytest.raises(Exception, match="no version and no id before its first run"):
        _ = call.version


async def test_a_call_whose_program_ran_in_another_thread_says_how_to_run_it_there(store: Path) -> None:
    live = LiveProgram(sayer(), store=store)
    with ThreadPoolExecutor(1) as pool, live.call() as call:
        pool.submit(live, question="?").result(PATIENCE)
        with pytest.raises(PublicationError, match=r"or through the call, .* if it runs in another thread"):
            _ = call.version


async def test_a_call_that_is_passed_along_runs_its_own_version_in_any_thread(store: Path) -> None:
    live = LiveProgram(sayer(), store=store)
    with ThreadPoolExecutor(1) as pool:
        for key in map(str, range(10)):
            with live.call(key=key) as call:
                said = await answer(live)
            again = await asyncio.get_running_loop().run_in_executor(pool, lambda call=call: call(question="?"))
            assert (again.answer, call.version) == (said, 1 if said == "old" else 2)


async def test_a_call_that_is_passed_along_can_be_awaited(store: Path) -> None:
    call = LiveProgram(sayer(), store=store).call(key="ann")
    said = (await call.acall(question="?")).answer
    assert call.version == (1 if said == "old" else 2)


async def test_sync_and_async_dependencies_of_fastapi_hold_a_block(store: Path) -> None:
    app, live = FastAPI(), LiveProgram(sayer(), store=store)

    def sync_call(user: str) -> Any:
        with live.call(key=user) as call:
            yield call

    async def async_call(user: str) -> Any:
        with live.call(key=user) as call:
            yield call

    async def passed_along(call: Annotated[LiveCall, Depends(sync_call)]) -> Any:
        return [(await call.acall(question="?")).answer, call.version]

    def in_a_thread(call: Annotated[LiveCall, Depends(sync_call)]) -> Any:
        return [call(question="?").answer, call.version]

    async def in_the_block(call: Annotated[LiveCall, Depends(async_call)]) -> Any:
        return [await answer(live), call.version]

    # FastAPI would look the names up in the module, where they are not.
    for endpoint, dependency in ((passed_along, sync_call), (in_a_thread, sync_call), (in_the_block, async_call)):
        endpoint.__annotations__ = {"call": Annotated[LiveCall, Depends(dependency)]}
        app.get(f"/{endpoint.__name__}")(endpoint)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
        for user in map(str, range(6)):
            answers = [
                (await client.get(f"/{path}", params={"user": user})).raise_for_status().json()
                for path in ("passed_along", "in_a_thread", "in_the_block")
            ]
            assert answers[0] == answers[1] == answers[2]
            assert answers[0] in (["old", 1], ["new", 2])
