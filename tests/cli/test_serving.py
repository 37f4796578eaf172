"""The command that serves the dashboard, as a process."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import httpx

from simba_actors import Optimizer
from simba_actors.events import StepOpened
from tests.support.command_line import run_command
from tests.support.runs import finish, reach, small_config
from tests.support.waiting import PATIENCE

FULL_SECONDS = 1.0
"""Seconds without progress after which all buffers are full."""


@asynccontextmanager
async def serving(store: Path, *options: str) -> AsyncGenerator[str]:
    """The address that the command prints. It is interrupted at the end, and has to take that well."""
    command = [sys.executable, "-m", "simba_actors", "serve", "--port", "0", "--store", str(store), *options]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield (await asyncio.wait_for(process.stdout.readline(), PATIENCE)).decode().strip()
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), PATIENCE) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await asyncio.wait_for(process.wait(), PATIENCE)


def browser() -> httpx.AsyncClient:
    return httpx.AsyncClient(follow_redirects=True, timeout=PATIENCE)


async def test_the_dashboard_is_served_where_the_command_says(tmp_path: Path) -> None:
    await finish(small_config(tmp_path / "simba.db", run_id="colours"))
    async with serving(tmp_path / "simba.db") as address, browser() as client:
        assert address.startswith("http://127.0.0.1:")
        assert "colours" in (await client.get(address)).text
        assert (await client.get(f"{address}runs/colours/events")).text.endswith("event: over\ndata:\n\n")


async def test_an_open_stream_does_not_keep_the_command_from_ending(tmp_path: Path) -> None:
    async with await Optimizer.start(small_config(tmp_path / "simba.db", run_id="colours")) as optimizer:
        await reach(optimizer, StepOpened)
    async with AsyncExitStack() as tab:
        client = await tab.enter_async_context(browser())
        async with serving(tmp_path / "simba.db") as address:
            answer = await tab.enter_async_context(client.stream("GET", f"{address}runs/colours/events"))
            lines = answer.aiter_lines()
            assert await anext(lines)


async def test_a_browser_that_stopped_reading_does_not_keep_the_command_from_ending(tmp_path: Path) -> None:
    await finish(small_config(tmp_path / "simba.db", run_id="colours"))
    with socket.socket() as idle:
        async with serving(tmp_path / "simba.db") as address:
            await asyncio.to_thread(ask_and_never_read, idle, httpx.URL(address))


def ask_and_never_read(idle: socket.socket, address: httpx.URL) -> None:
    """A client that asks for so much that the answers fill all buffers on the way."""
    idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    idle.connect((address.host, address.port))
    idle.settimeout(FULL_SECONDS)
    with suppress(TimeoutError):
        while True:
            idle.sendall(b"GET /static/style.css HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50)


async def test_beyond_loopback_a_token_is_made_up_and_asked_for(tmp_path: Path) -> None:
    await finish(small_config(tmp_path / "simba.db", run_id="colours"))
    async with serving(tmp_path / "simba.db", "--host", "0.0.0.0", "--json") as line:  # noqa: S104 - for this test
        address = httpx.URL(json.loads(line)["address"]).copy_with(host="127.0.0.1")
        async with browser() as client:
            assert (await client.get(address.copy_with(query=None))).status_code == 401
            assert "colours" in (await client.get(address)).text


def test_an_empty_token_is_refused(tmp_path: Path) -> None:
    refused = run_command(["serve", "--token", "", "--store", tmp_path / "simba.db"])
    assert (refused.exit_code, refused.stderr.startswith("ConfigError: token must be")) == (1, True)


async def test_the_address_holds_a_token_of_any_characters(tmp_path: Path) -> None:
    await finish(small_config(tmp_path / "simba.db", run_id="colours"))
    async with serving(tmp_path / "simba.db", "--token", "a&b#c=%20+") as address, browser() as client:
        assert "colours" in (await client.get(address)).text


def test_a_port_that_is_taken_is_named_with_the_remedy(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = run_command(["serve", "--port", port, "--store", tmp_path / "simba.db"])
    assert refused.exit_code == 1
    assert f"can't listen on 127.0.0.1, port {port}" in refused.stderr
    assert "give another --port" in refused.stderr
