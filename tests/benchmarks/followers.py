"""Live programs on other hosts: how soon they serve a new version, and whether they survive a server that keeps dying.

    python -m tests.benchmarks.followers
    python -m tests.benchmarks.followers grpc

One server of a store's channels and 200 live programs in 8 processes, each with a connection of its own, on this
machine. Something is published 20 times: from the publisher's commit to the first call that runs it, the 99th
percentile of the programs (bar: 1 s). Then the server is killed and started again 20 times, a version is published each
time, and all programs call all the while (bars: no call fails, no program stays behind).
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from simba_actors.live import LiveProgram
from tests.live.test_remote import serving
from tests.support.hosts import free_port, wait_for_port
from tests.support.live import publish, sayer

PROCESSES, PROGRAMS = 8, 25
PUBLICATIONS = KILLS = 20
BAR = 1.0
PATIENCE = 60.0


GRPC_SERVER = """
import asyncio, sys
from pathlib import Path
from simba_actors.web.channels.over_grpc import serve_channels

async def serve():
    server, _ = await serve_channels(Path(sys.argv[1]), f"127.0.0.1:{sys.argv[2]}")
    await server.wait_for_termination()

asyncio.run(serve())
"""


@contextmanager
def serving_over_grpc(store: Path, port: int) -> Generator[str]:
    """Serve the store's channels over gRPC in a process that is killed at the end."""
    with subprocess.Popen([sys.executable, "-c", GRPC_SERVER, str(store), str(port)]) as process:
        try:
            wait_for_port(process, port)
            yield f"grpc://127.0.0.1:{port}"
        finally:
            process.kill()


def follow(url: str, folder: Path, pipe: Connection) -> None:
    """Follow with many programs. For each version sent, report when each program served it, and which calls failed."""
    logging.disable()
    # A cache of its own gives each program a poller and a connection of its own.
    programs = [LiveProgram(sayer(), store=url, cache=folder / str(n)) for n in range(PROGRAMS)]
    for program in programs:
        program(question="?")
    pipe.send("up")
    while True:
        version = pipe.recv()
        if version is None:
            return
        waiting, failures, served = set(programs), 0, list[float]()
        deadline = time.monotonic() + PATIENCE
        while waiting and time.monotonic() < deadline:
            for program in list(waiting):
                try:
                    program.sync_variables()
                except Exception:
                    failures += 1
                if program.version == version:
                    served.append(time.monotonic())
                    waiting.discard(program)
            time.sleep(0.002)
        try:
            for program in programs[:2]:
                program(question="?")
        except Exception:
            failures += 1
        pipe.send((served, failures, len(waiting)))


def rounds(store: Path, pipes: list[Connection], version: int) -> tuple[list[float], int, int]:
    """Publish one version. Return the seconds until each program served it, failed calls, and programs left behind."""
    for pipe in pipes:
        pipe.send(version)
    time.sleep(0.2)
    asyncio.run(publish(store, f"word {version}"))
    committed = time.monotonic()
    answers: list[Any] = [pipe.recv() for pipe in pipes]
    seconds = [moment - committed for served, _, _ in answers for moment in served]
    return seconds, sum(failed for _, failed, _ in answers), sum(behind for _, _, behind in answers)


def main(transport: str = "http") -> None:
    serve = serving_over_grpc if transport == "grpc" else serving
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = folder / "simba.db"
        asyncio.run(publish(store, "one"))
        port = free_port()
        url = f"{transport}://127.0.0.1:{port}"
        spawn = multiprocessing.get_context("spawn")
        pipes: list[Connection] = []
        children: list[Any] = []
        with serve(store, port):
            for n in range(PROCESSES):
                ours, theirs = spawn.Pipe()
                children.append(spawn.Process(target=follow, args=[url, folder / f"cache {n}", theirs], daemon=True))
                children[-1].start()
                pipes.append(ours)
            for pipe in pipes:
                pipe.recv()
            waits: list[float] = []
            failed = behind = 0
            for version in range(2, 2 + PUBLICATIONS):
                seconds, failures, left = rounds(store, pipes, version)
                waits, failed, behind = [*waits, *seconds], failed + failures, behind + left
        p99 = quantiles(waits, n=100)[-1]
        load = os.getloadavg()[0]
        print(
            f"{PROCESSES * PROGRAMS} programs, {PUBLICATIONS} publications over {transport}, at a load of {load:.1f}:"
        )
        print(f"served after {median(waits):.2f} s (median), {p99:.2f} s (p99; bar {BAR:g}), {max(waits):.2f} s (most)")
        print(f"{failed} calls failed, {behind} programs were left behind")
        failed = behind = 0
        for version in range(2 + PUBLICATIONS, 2 + PUBLICATIONS + KILLS):
            with serve(store, port):
                _, failures, left = rounds(store, pipes, version)
            failed, behind = failed + failures, behind + left
        print(f"server killed {KILLS} times: {failed} calls failed, {behind} programs were left behind")
        for pipe in pipes:
            pipe.send(None)
        for child in children:
            child.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
