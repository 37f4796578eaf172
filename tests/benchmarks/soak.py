"""Whether a service stays the same over a long time: memory, threads, handles, tasks, and answers to all requests.

    python -m tests.benchmarks.soak                # a minute: too short to judge memory
    python -m tests.benchmarks.soak --minutes 30

One service, a process with FastAPI under uvicorn, answers requests of four clients all the time: by a live program that
follows a channel, in the event loop and in threads, and by live programs made for one request each. Meanwhile rounds of
these scenes pass, one after the other, all in one store:

* whole: a run in the service, from start to result, whose winner is published;
* stopped: a run that is stopped in its midst, started again, paused and resumed;
* killed: a run of another process, which is killed; the service stands by, takes it over and finishes it;
* published: a version, a canary that scores decide about, and a rollback, all from another process.

After each round the service says what it holds. The table compares the least of the second quarter of the time with
the least of the last one: caches fill in the first quarter, and requests in flight hold something for a moment. The
first quarter needs 1,500 requests: a live program remembers its newest 1,000, in case a score is reported.

Memory has three rows. "Blocks" are what Python's allocator has handed out, about one for each small object, and "heap"
is what the C library's has: if one of them grows, something is kept. "Memory" is what the process has of the machine.
It also holds what both allocators have taken back and keep for later, so it may grow while the others don't.

Every request that is not answered with a colour counts as failed. Needs Linux with glibc 2.33 or later.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import gc
import logging
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import dspy
import httpx
import uvicorn
from fastapi import FastAPI

from simba_actors import Channel, LiveProgram, Optimizer, OptimizerConfig, Source
from simba_actors.errors import StoreError
from simba_actors.events import TrajectorySampled
from simba_actors.store import Reader
from tests.support.children import start_child, start_process
from tests.support.hosts import free_port
from tests.support.openai_server import OpenAIServer, lm_at
from tests.support.quiz import ANSWERS, legible_script
from tests.support.runs import finish, small_config
from tests.support.scripted_lm import Ask

CHANNEL = "quiz"
CLIENTS = 4
PAUSE_SECONDS = 0.2
"""Seconds between two requests of a client, and a fifth of those between two rounds."""
LIMIT_SECONDS = 60.0
"""Maximum seconds of a request."""
SCENE_SECONDS = 300.0
"""Maximum seconds of a scene, and of the service's start. The first scene on a busy machine imports all of DSPy."""
LATENCY = 0.02
ROLLOUTS_BEFORE = 3
"""Number of rollouts of a run before it is stopped or its process is killed."""
REPORTS = 40
"""Number of scores that decide about a canary."""

MOST_GROWTH = {
    "blocks (1,000)": 5.0,
    "heap (MB)": 1.0,
    "memory (MB)": 8.0,
    "threads": 2.0,
    "handles": 4.0,
    "tasks": 1.0,
}
"""Growth allowed from the second quarter to the last. A connection to the LM, once opened, stays."""


def config_for(lm: dspy.LM, store: Path, run_id: str) -> OptimizerConfig:
    return small_config(store, run_id=run_id, channel=CHANNEL, lm=lm, prompt_model=lm)


# ── the service ──────────────────────────────────────────────────────────────────────────────────────────────────────


class Service:
    """The functions behind the service's endpoints."""

    def __init__(self, address: str, store: Path) -> None:
        self._store = store
        self._lm = lm_at(address)
        self.student: Any = dspy.Predict("question -> answer")
        self.student.lm = self._lm
        self.live = LiveProgram(self.student, store=store, channel=CHANNEL, keep_examples=20)

    def _config(self, run_id: str) -> OptimizerConfig:
        return config_for(self._lm, self._store, run_id)

    def for_one_request(self) -> LiveProgram:
        return LiveProgram(self.student, store=self._store, channel=CHANNEL)

    async def whole(self, run_id: str) -> None:
        async with Optimizer.start(self._config(run_id)) as optimizer:
            await optimizer.result(SCENE_SECONDS)
            await optimizer.publish()

    async def stopped(self, run_id: str) -> None:
        async with Optimizer.start(self._config(run_id)) as optimizer:
            await self._sampled(optimizer)
        async with Optimizer.start(self._config(run_id)) as optimizer:
            await optimizer.pause("soaking")
            await optimizer.resume()
            await optimizer.result(SCENE_SECONDS)

    async def take_over(self, run_id: str) -> None:
        async with Optimizer.start(self._config(run_id), standby=True) as optimizer:
            await optimizer.result(SCENE_SECONDS)

    async def _sampled(self, optimizer: Optimizer) -> None:
        async with contextlib.aclosing(optimizer.events()) as events:
            count = 0
            async for event in events:
                count += isinstance(event, TrajectorySampled)
                if count >= ROLLOUTS_BEFORE:
                    return


class MallInfo(ctypes.Structure):
    """The result of glibc's `mallinfo2`."""

    uordblks: int
    """Bytes of blocks in use."""
    hblkhd: int
    """Bytes of blocks in use that are so large that each has a mapping of its own."""

    _fields_ = [
        ("arena", ctypes.c_size_t),
        ("ordblks", ctypes.c_size_t),
        ("smblks", ctypes.c_size_t),
        ("hblks", ctypes.c_size_t),
        ("hblkhd", ctypes.c_size_t),
        ("usmblks", ctypes.c_size_t),
        ("fsmblks", ctypes.c_size_t),
        ("uordblks", ctypes.c_size_t),
        ("fordblks", ctypes.c_size_t),
        ("keepcost", ctypes.c_size_t),
    ]


def heap_in_use() -> int:
    """Return the bytes that the C library's allocator has handed out."""
    mallinfo: Any = ctypes.CDLL(None).mallinfo2
    mallinfo.restype = MallInfo
    info: MallInfo = mallinfo()
    return info.uordblks + info.hblkhd


def figures() -> dict[str, float]:
    """Return what the process holds at this moment."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "blocks (1,000)": sys.getallocatedblocks() / 1000,
        "heap (MB)": heap_in_use() / 1e6,
        "memory (MB)": pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
        "threads": threading.active_count(),
        "handles": len(list(Path("/proc/self/fd").iterdir())),
        "tasks": len(asyncio.all_tasks()),
    }


def create_app(address: str, store: Path) -> FastAPI:
    service = Service(address, store)
    app = FastAPI()

    @app.get("/ask")
    async def ask(question: str) -> dict[str, Any]:
        with service.live.call() as call:
            prediction = await service.live.acall(question=question)
        return {"answer": prediction.answer, "call": call.id}

    @app.get("/ask_in_a_thread")
    def ask_in_a_thread(question: str) -> dict[str, Any]:
        return {"answer": service.live(question=question).answer}

    @app.get("/ask_anew")
    async def ask_anew(question: str) -> dict[str, Any]:
        return {"answer": (await service.for_one_request().acall(question=question)).answer}

    @app.post("/report")
    async def report(call: str, score: float) -> None:
        service.live.report(score, call)

    scenes = {"whole": service.whole, "stopped": service.stopped, "take_over": service.take_over}

    @app.post("/scene/{name}")
    async def scene(name: str, run: str) -> None:
        await scenes[name](run)

    @app.get("/figures")
    async def held() -> dict[str, float]:
        return figures()

    return app


def serve(address: str, store: Path, port: int) -> None:
    logging.disable(logging.ERROR)
    # DSPy keeps the last 10,000 prompts and predictor calls of a process otherwise.
    dspy.configure(disable_history=True, max_trace_size=0)
    uvicorn.run(create_app(address, store), port=port, log_level="error")


# ── its clients and its administrator ────────────────────────────────────────────────────────────────────────────────


class Load:
    """The clients' requests and their results."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self.ended: Counter[str] = Counter()

    @asynccontextmanager
    async def underway(self) -> AsyncGenerator[None]:
        async with asyncio.TaskGroup() as clients:
            tasks = [clients.create_task(self._ask(number)) for number in range(CLIENTS)]
            yield
            for task in tasks:
                task.cancel()

    async def _ask(self, number: int) -> None:
        ways = ("ask", "ask_in_a_thread", "ask_anew")
        count = number
        while True:
            count += 1
            question = f"What is the colour of ball {count % 500}?"
            try:
                response = await self._client.get(ways[count % len(ways)], params={"question": question})
                answer = response.json()["answer"] if response.is_success else response.text
            except httpx.HTTPError as error:
                answer = repr(error)
            self.ended["answered" if answer in ANSWERS else answer] += 1
            await asyncio.sleep(PAUSE_SECONDS)


class Administrator:
    """Runs the scenes."""

    def __init__(self, client: httpx.AsyncClient, address: str, store: Path) -> None:
        self._client, self._address, self._store = client, address, store
        self._rounds = 0
        self.scenes: Counter[str] = Counter()

    async def a_round(self) -> dict[str, float]:
        """Run each scene once, and return what the service holds afterwards."""
        self._rounds += 1
        scenes: tuple[Callable[[str], Coroutine[Any, Any, None]], ...] = (
            self.whole,
            self.stopped,
            self.killed,
            self.published,
        )
        for scene in scenes:
            async with asyncio.timeout(SCENE_SECONDS):
                await scene(f"{scene.__name__} {self._rounds}")
            self.scenes[scene.__name__] += 1
        await asyncio.sleep(5 * PAUSE_SECONDS)
        return (await self._client.get("figures")).raise_for_status().json()

    async def whole(self, run: str) -> None:
        await self._have("whole", run)

    async def stopped(self, run: str) -> None:
        await self._have("stopped", run)

    async def killed(self, run: str) -> None:
        rival = start_child(work_on, self._address, self._store, run)
        try:
            await self._until_it_works(run)
            standby = asyncio.create_task(self._have("take_over", run))
            await asyncio.sleep(10 * LATENCY)
        finally:
            await asyncio.to_thread(end, rival)
        await standby

    async def published(self, run: str) -> None:
        async with await Channel.open(self._store, CHANNEL) as channel:
            student = Source(run.replace("published", "whole"), 0)
            first = await channel.publish(student, reason="the student")
            better = Source(run.replace("published", "stopped"), 0)
            await channel.start_canary(better, share=0.5, expected=first.version, reason="a canary")
            for number in range(REPORTS):
                response = await self._client.get("ask", params={"question": f"What is the colour of ball {number}?"})
                call = response.raise_for_status().json()["call"]
                (await self._client.post("report", params={"call": call, "score": number % 2})).raise_for_status()
            if (await channel.served()).canary is not None:
                await channel.rollback(reason="no canary any more")
            await channel.rollback(reason="what was served before")
            await channel.prune(keep=20)

    async def _have(self, scene: str, run: str) -> None:
        answer = await self._client.post(f"scene/{scene}", params={"run": run}, timeout=SCENE_SECONDS)
        answer.raise_for_status()

    async def _until_it_works(self, run: str) -> None:
        while True:
            with contextlib.suppress(StoreError, LookupError):
                async with await Reader.open(self._store) as reader:
                    if await reader.rollouts_done(run) >= ROLLOUTS_BEFORE:
                        return
            await asyncio.sleep(LATENCY)


async def work_on(address: str, store: Path, run_id: str) -> None:
    """Run an optimization in a process that is about to be killed."""
    logging.disable(logging.ERROR)
    await finish(config_for(lm_at(address), store, run_id))


def end(process: BaseProcess) -> None:
    process.kill()
    process.join()
    process.close()


def report(held: list[dict[str, float]]) -> bool:
    """Print the table. Return whether all figures are flat."""
    quarter = max(1, len(held) // 4)
    second, last = held[quarter : 2 * quarter] or held, held[-quarter:]
    flat = True
    print(f"{'':15} {'second quarter':>15} {'last quarter':>13} {'most':>8}")
    for name, allowed in MOST_GROWTH.items():
        before, after = (min(each[name] for each in part) for part in (second, last))
        flat = flat and after - before <= allowed
        print(f"{name:15} {before:15.1f} {after:13.1f} {max(each[name] for each in held):8.1f}")
    return flat


async def soak(seconds: float, directory: Path) -> bool:
    store, port = directory / "soak.db", free_port()
    with OpenAIServer(script, latency=LATENCY) as provider:
        service = start_process(serve, provider.address, store, port)
        try:
            limits = httpx.Limits(max_keepalive_connections=0)
            address = f"http://127.0.0.1:{port}"
            async with httpx.AsyncClient(base_url=address, limits=limits, timeout=LIMIT_SECONDS) as client:
                await until_up(client)
                load, administrator = Load(client), Administrator(client, provider.address, store)
                held: list[dict[str, float]] = []
                end_at = time.monotonic() + seconds
                async with load.underway():
                    while time.monotonic() < end_at:
                        held.append(await administrator.a_round())
                        provider.asks.clear()
                        provider.headers.clear()
        finally:
            end(service)
    flat = report(held)
    failed = {how: count for how, count in load.ended.items() if how != "answered"}
    print(f"{load.ended['answered']:,} requests answered; failed: {failed or 'none'}")
    print(f"scenes: {dict(administrator.scenes)}; the store has {store.stat().st_size / 1e6:.1f} MB")
    return flat and not failed


def script(ask: Ask) -> Any:
    return legible_script(ask)


async def until_up(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(SCENE_SECONDS):
        while True:
            try:
                (await client.get("figures")).raise_for_status()
            except httpx.ConnectError:
                await asyncio.sleep(PAUSE_SECONDS)
            else:
                return


def main() -> None:
    parser = argparse.ArgumentParser(description="Whether a service that lives long stays as it is.")
    parser.add_argument("--minutes", type=float, default=1.0)
    minutes = parser.parse_args().minutes
    logging.disable(logging.ERROR)
    with tempfile.TemporaryDirectory() as directory:
        good = asyncio.run(soak(60 * minutes, Path(directory)))
    print("flat, and no failed request" if good else f"missed: growth of at most {MOST_GROWTH}, no failed request")


if __name__ == "__main__":
    main()
