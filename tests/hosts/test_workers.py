"""Four workers of one service: all answer, one owns the run, and they are killed and replaced while they serve."""

from __future__ import annotations

import asyncio
import importlib
import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any, TypeVar

import dspy
import httpx
import pytest

from tests.support.hosts import free_port, running
from tests.support.openai_server import OpenAIServer
from tests.support.router import EXAMPLES, halves, knows_with_demos
from tests.support.runs import findings_in, finish
from tests.support.waiting import block_until

T = TypeVar("T")

WORKERS = 4
KILLS = 3
CLIENTS = 4
STEPS = 1
PAUSE = 0.2
"""Seconds between a client's requests, long enough to leave most of the machine to workers that start."""
SLOW_REPLY = 2.0
"""Seconds that the LM takes while workers are killed, so that hundreds of calls, 8 at a time, outlast the kills."""
START_LIMIT = 40
"""Seconds that uvicorn gives a worker to start or to answer a ping."""
LIMIT = 300.0
"""Seconds after which whatever the test waits for has failed to happen."""


class Service:
    """The example under uvicorn, seen by its clients and its administrator."""

    def __init__(self, address: str, log: Path) -> None:
        self.address = address
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def supervisor(self) -> int:
        """The pid of the process that starts the workers."""
        found = re.search(r"Started parent process \[(\d+)\]", self.log)
        assert found is not None
        return int(found[1])

    def status(self) -> dict[str, Any]:
        """Return the status that any one of the workers reports."""
        return block_until(self._status, seconds=LIMIT)

    def _status(self) -> Any:
        try:
            return httpx.get(f"{self.address}/status", timeout=LIMIT).raise_for_status().json()
        except (httpx.ReadError, httpx.RemoteProtocolError):  # That worker ended.
            return None

    def owner_at_work(self, *, after: int) -> tuple[int, int] | None:
        """Return the owner's pid and the number of rollouts, if the owner answers and there are more than `after`."""
        status = self.status()
        at_work = status["role"] == "owner" and status["rollouts"] > after
        return (status["worker"], status["rollouts"]) if at_work else None

    def finished_run(self) -> str | None:
        status = self.status()
        return status["run"] if status["status"] == "finished" else None


@contextmanager
def service(store: Path, provider: OpenAIServer, *options: str) -> Generator[Service]:
    port, log = free_port(), store.with_suffix(".log")
    command = ["uvicorn", "--app-dir", str(EXAMPLES), "--port", str(port), *options, "fastapi_service:app"]
    environment = {
        "SERVICE_STORE": str(store),
        "SERVICE_MODEL": "openai/scripted",
        "SERVICE_API_BASE": provider.address,
        "SERVICE_STEPS": str(STEPS),
        "DSPY_CACHEDIR": str(store.with_suffix(".cache")),
    }
    with running(command, port, log=log, **environment):
        yield Service(f"http://127.0.0.1:{port}", log)


class Load:
    """Requests of several clients, each on a connection of its own.

    A worker that ends drops the connections that it has accepted, whatever the application. Such a request is sent
    again, as a load balancer does. `dropped` counts them, `answers` the statuses of all others.
    """

    def __init__(self, address: str) -> None:
        self.answers: Counter[int] = Counter()
        self.dropped = 0
        self.errors: list[Exception] = []
        self._address = address
        _, self._messages = halves()
        self._over = threading.Event()

    @contextmanager
    def underway(self) -> Generator[None]:
        clients = [threading.Thread(target=self._ask, daemon=True) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        try:
            yield
        finally:
            self._over.set()
            for client in clients:
                client.join(LIMIT)

    def _ask(self) -> None:
        messages = cycle(self._messages)
        message = next(messages)
        with httpx.Client(base_url=self._address, headers={"connection": "close"}, timeout=LIMIT) as client:
            while not self._over.wait(PAUSE):
                try:
                    response = client.post("/route", json={"message": message})
                except (httpx.ReadError, httpx.RemoteProtocolError):
                    self.dropped += 1
                except Exception as error:
                    self.errors.append(error)
                    return
                else:
                    self.answers[response.status_code] += 1
                    message = next(messages)


def in_time(condition: Callable[[], T | None]) -> T:
    """Return the condition's value as soon as it has one."""
    return block_until(condition, pause=0.05, seconds=LIMIT)


def run_in_one_process(store: Path, provider: OpenAIServer) -> dict[str, Any]:
    """Return the findings of the example's optimization without a server around it."""
    example: Any = importlib.import_module("fastapi_service")
    options = example.parse_options(["--store", str(store), "--steps", str(STEPS)])
    lm = dspy.LM("openai/scripted", api_base=provider.address, api_key="none", cache=False)
    with dspy.context(lm=lm, adapter=dspy.ChatAdapter()):
        result = asyncio.run(finish(example.optimization(options)))
    return asyncio.run(findings_in(store, result.run_id))


def test_requests_and_the_run_survive_kills_of_the_owner_and_a_rolling_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    store = tmp_path / "workers.db"
    options = ["--workers", str(WORKERS), "--timeout-worker-healthcheck", str(START_LIMIT)]
    with OpenAIServer(knows_with_demos()) as provider:
        expected = run_in_one_process(tmp_path / "one.db", provider)
        provider.latency = SLOW_REPLY
        with service(store, provider, *options) as workers:
            load = Load(workers.address)
            with load.underway():
                rollouts = 0
                for _ in range(KILLS):
                    owner, rollouts = in_time(lambda after=rollouts: workers.owner_at_work(after=after))
                    os.kill(owner, signal.SIGKILL)
                in_time(lambda after=rollouts: workers.owner_at_work(after=after))
                in_time(lambda: workers.log.count("died") == KILLS)
                os.kill(workers.supervisor, signal.SIGHUP)
                in_time(lambda: workers.log.count("Terminated child process") == WORKERS)
                provider.latency = 0.0
                run = in_time(workers.finished_run)
            log = workers.log
    assert load.errors == []
    assert set(load.answers) == {200}
    assert load.dropped <= CLIENTS * (KILLS + WORKERS)
    assert log.count("died") == KILLS, log  # No worker ended by itself.
    assert asyncio.run(findings_in(store, run)) == expected
