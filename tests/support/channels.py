"""Servers of a store's channels over HTTP and gRPC, in a process of their own.

They are not in the process of a test: where gRPC's asyncio server ends in the middle of a call, blocking clients of the
same process may never hear of it.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tests.support.waiting import PATIENCE, limited


class ChannelServers:
    """Starts and ends servers, one at a time, in one process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    @contextmanager
    def serving(self, store: Path, port: int = 0, token: str | None = None, transport: str = "grpc") -> Generator[str]:
        """Serve a store's channels and yield the address. Cut all calls at the end."""
        yield self._ask({"store": str(store), "port": port, "token": token, "transport": transport})
        self._ask({"over": True})

    def set_clock(self, hours: float) -> None:
        """Set the process's clock forward, or back if `hours` is negative."""
        self._ask({"hours": hours})

    def close(self) -> None:
        self._process.kill()
        self._process.communicate(timeout=PATIENCE)

    def _ask(self, message: dict[str, Any]) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(message), file=self._process.stdin, flush=True)
        with limited(self._process):
            return self._process.stdout.readline().strip()


async def _serve() -> None:
    clock = time.time
    stop: Callable[[], Awaitable[None]] | None = None
    while line := await asyncio.to_thread(sys.stdin.readline):
        message = json.loads(line)
        if "store" in message:
            start = _start_grpc if message["transport"] == "grpc" else _start_http
            address, stop = await start(Path(message["store"]), message["port"], message["token"])
            print(address, flush=True)
            continue
        if stop is not None and "over" in message:
            await stop()
        if "hours" in message:
            time.time = partial(_shifted, clock, message["hours"] * 3600)
        print("done", flush=True)


def _shifted(clock: Callable[[], float], seconds: float) -> float:
    return clock() + seconds


async def _start_grpc(store: Path, port: int, token: str | None) -> tuple[str, Callable[[], Awaitable[None]]]:
    from simba_actors.web.channels.over_grpc import serve_channels

    server, bound = await serve_channels(store, f"127.0.0.1:{port}", token=token)
    return f"grpc://127.0.0.1:{bound}", partial(server.stop, None)


async def _start_http(store: Path, port: int, token: str | None) -> tuple[str, Callable[[], Awaitable[None]]]:
    import uvicorn

    from simba_actors.web import dashboard

    listening = socket.create_server(("127.0.0.1", port))
    app = dashboard(store, token=token, channels=True)
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
    serving = asyncio.ensure_future(server.serve(sockets=[listening]))

    async def stop() -> None:
        server.should_exit = server.force_exit = True  # Without waiting for those who watch.
        await serving

    return f"http://127.0.0.1:{listening.getsockname()[1]}", stop


if __name__ == "__main__":
    asyncio.run(_serve())
