"""The service example, under uvicorn in a separate process that is killed and started again."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.openai_server import OpenAIServer
from tests.support.router import EXAMPLES, knows_with_demos, topics
from tests.support.waiting import PATIENCE, block_until, limited

JSON = {"content-type": "application/json"}
PAUSE = 0.1
"""Seconds between requests, which leave the processor to the optimization: both are in one process."""


@contextmanager
def service(store: Path, provider: OpenAIServer) -> Generator[tuple[subprocess.Popen[str], httpx.Client]]:
    """The running service, and a client of it."""
    command = [sys.executable, str(EXAMPLES / "fastapi_service.py"), "--store", str(store), "--port", "0"]
    command += ["--model", "openai/scripted", "--api-base", provider.address]
    environment = {**os.environ, "DSPY_CACHEDIR": str(store.parent / "cache")}
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        assert process.stderr is not None
        try:
            with limited(process):
                address = first_address(process.stderr)
            threading.Thread(target=process.stderr.read, daemon=True).start()  # Or its pipe would fill up.
            with httpx.Client(base_url=address, timeout=PATIENCE) as client:
                yield process, client
        finally:
            process.kill()


def first_address(lines: Iterator[str]) -> str:
    read: list[str] = []
    for line in lines:
        read.append(line)
        if found := re.search(r"running on (http://\S+)", line):
            return found[1]
    raise AssertionError("the service did not start: " + "".join(read))


@pytest.fixture
def provider() -> Generator[OpenAIServer]:
    with OpenAIServer(knows_with_demos(), latency=0.01) as server:
        yield server


def route(client: httpx.Client) -> dict[str, Any]:
    answer = client.post("/route", json={"message": next(iter(topics()))}, headers={"user": "ann"})
    return answer.raise_for_status().json()


def status(client: httpx.Client) -> dict[str, Any]:
    return client.get("/status").raise_for_status().json()


def better_answer(client: httpx.Client) -> dict[str, Any] | None:
    """Return an answer of a program that was found, or None as long as the student itself answers."""
    answer = route(client)
    return answer if answer["version"] > 0 else None


def progress_since(before: dict[str, Any], client: httpx.Client) -> dict[str, Any] | None:
    """Return the status once the run has made rollouts since `before`, or is finished."""
    route(client)
    after = status(client)
    return after if after["status"] == "finished" or after["rollouts"] > before["rollouts"] else None


def test_the_service_gets_better_while_it_answers_and_goes_on_after_a_kill(
    tmp_path: Path, provider: OpenAIServer
) -> None:
    store = tmp_path / "service.db"
    with service(store, provider) as (process, client):
        first = route(client)
        answer = block_until(lambda: better_answer(client), pause=PAUSE)
        client.post("/feedback", json={"call": answer["call"], "score": 1.0}).raise_for_status()
        before = status(client)
        process.send_signal(signal.SIGKILL)
    assert (first["version"], first["topic"]) == (0, "smalltalk")
    assert answer["topic"] == next(iter(topics().values()))
    assert before["versions"][0]["reason"].startswith("better than the student itself on ")

    with service(store, provider) as (process, client):
        assert route(client)["version"] >= answer["version"]
        after = block_until(lambda: progress_since(before, client), pause=PAUSE)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) in (0, -signal.SIGTERM)
    assert after["run"] == before["run"]
    assert after["rollouts"] >= before["rollouts"]
    assert after["versions"][: len(before["versions"])] == before["versions"]


def test_feedback_that_makes_no_sense_is_refused(tmp_path: Path, provider: OpenAIServer) -> None:
    bodies = ['{"call": "nonsense", "score": 1}']
    bodies += [f'{{"call": "1.1.a", "score": {score}}}' for score in ("NaN", "1e400")]
    with service(tmp_path / "service.db", provider) as (_, client):
        answers = [client.post("/feedback", content=body, headers=JSON) for body in bodies]
    assert [answer.status_code for answer in answers] == [422, 422, 422]
    assert "'nonsense' is not the id of a call" in answers[0].json()["detail"]
