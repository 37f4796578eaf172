"""Live updates."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from simba_actors import Optimizer
from simba_actors.events import StepOpened
from simba_actors.web import dashboard
from tests.support.connections import left_open, open_connections
from tests.support.runs import reach, small_config
from tests.support.waiting import PATIENCE
from tests.web.test_pages import RUN_PATH


@asynccontextmanager
async def paused_run(path: Path) -> AsyncGenerator[Path]:
    async with await Optimizer.start(small_config(path, run_id="live")) as optimizer:
        await reach(optimizer, StepOpened)
        await optimizer.pause()
        yield path


def client_of(store: Path) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(dashboard(store)), base_url="http://127.0.0.1")


def ids(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"^id: (\d+)$", text, re.MULTILINE)]


async def test_the_stream_replays_all_events_and_says_when_the_run_is_over(client: httpx.AsyncClient) -> None:
    answer = await client.get(f"{RUN_PATH}/events")
    numbers = ids(answer.text)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert numbers == list(range(1, len(numbers) + 1))
    assert answer.text.endswith("event: over\ndata:\n\n")


async def test_after_a_lost_connection_it_goes_on_without_a_gap(client: httpx.AsyncClient) -> None:
    whole = ids((await client.get(f"{RUN_PATH}/events")).text)
    resumed = await client.get(f"{RUN_PATH}/events?after=2", headers={"last-event-id": "7"})
    assert ids(resumed.text) == whole[7:]


async def test_each_event_is_one_line(client: httpx.AsyncClient) -> None:
    parts = (await client.get(f"{RUN_PATH}/events")).text.strip().split("\n\n")
    assert all(re.fullmatch(r"retry: \d+|id: \d+\ndata: .+|event: over\ndata:", part) for part in parts)


async def test_the_stream_of_a_run_that_goes_on_ends_with_what_there_is(tmp_path: Path) -> None:
    async with paused_run(tmp_path / "simba.db") as store, client_of(store) as client:
        answer = await asyncio.wait_for(client.get("/runs/live/events"), PATIENCE)
    assert (bool(ids(answer.text)), "event: over" in answer.text) == (True, False)


async def test_a_stream_does_not_keep_a_service_from_ending(tmp_path: Path) -> None:
    ended = asyncio.Event()

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        yield
        ended.set()

    async with paused_run(tmp_path / "simba.db") as store:
        app = Starlette(routes=[Mount("/simba", dashboard(store))], lifespan=lifespan)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
            serving = asyncio.create_task(server.serve(sockets=[listening]))
            address = f"http://127.0.0.1:{listening.getsockname()[1]}/simba/runs/live/events"
            async with httpx.AsyncClient(timeout=PATIENCE) as client, client.stream("GET", address) as answer:
                lines = answer.aiter_lines()
                await anext(lines)
                server.should_exit = True
                await asyncio.wait_for(serving, PATIENCE)
    assert ended.is_set()


async def test_a_browser_that_goes_away_leaves_the_store_closed(tmp_path: Path) -> None:
    store = tmp_path / "simba.db"
    async with await Optimizer.start(small_config(store, run_id="live")) as optimizer:
        await reach(optimizer, StepOpened)
    before, streaming = open_connections(), asyncio.Event()

    async def receive() -> dict[str, Any]:
        await streaming.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            streaming.set()
            await asyncio.Event().wait()  # Its window is full.

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/runs/live/events",
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1")],
        "client": ("127.0.0.1", 1),
    }
    await asyncio.wait_for(dashboard(store)(scope, receive, send), PATIENCE)
    assert left_open(before) == set()
