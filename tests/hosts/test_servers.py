"""Live programs in real servers, with several workers, preloaded and forked, and reloaded."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.hosts import free_port, running
from tests.support.live import publish
from tests.support.waiting import block_until

WORKERS = 2
UVICORN_WORKER = "uvicorn_worker.UvicornWorker"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    asyncio.run(publish(tmp_path / "simba.db", "one"))
    return tmp_path / "simba.db"


def get(client: httpx.Client, path: str) -> Any:
    # A connection of its own for each request, so that all workers get some.
    return client.get(path, headers={"connection": "close"}).raise_for_status().json()


def ask_all_workers(client: httpx.Client, path: str, expected: str) -> None:
    """Ask until each worker has given the expected answer."""
    answered: set[int] = set()

    def all_have_answered() -> bool:
        answer = get(client, path)
        if answer["answer"] == expected:
            answered.add(answer["pid"])
        return len(answered) == WORKERS

    block_until(all_have_answered)


@pytest.mark.parametrize(
    ("application", "options", "path"),
    [
        ("tests.hosts.service:app", ["-k", UVICORN_WORKER], "/ask"),
        ("tests.hosts.service:app", ["-k", UVICORN_WORKER], "/ask_in_a_thread"),
        ("tests.hosts.service:wsgi", [], "/"),
        ("tests.hosts.service:wsgi", ["-k", "gthread", "--threads", "4"], "/"),
    ],
    ids=["async", "async server, sync call", "sync", "threads"],
)
def test_workers_that_gunicorn_forks_of_a_warm_application_serve_what_is_published(
    application: str, options: list[str], path: str, store: Path
) -> None:
    port = free_port()
    command = ["gunicorn", "--preload", "-w", str(WORKERS), "-b", f"127.0.0.1:{port}", *options, application]
    log = store.with_name("server.log")
    with running(command, port, log=log, SERVICE_STORE=str(store), SERVICE_WARM="1") as client:
        ask_all_workers(client, path, "one")
        asyncio.run(publish(store, "two"))
        ask_all_workers(client, path, "two")


def test_workers_of_uvicorn_serve_what_is_published(store: Path) -> None:
    port = free_port()
    command = ["uvicorn", "--workers", str(WORKERS), "--port", str(port), "tests.hosts.service:app"]
    with running(command, port, log=store.with_name("server.log"), SERVICE_STORE=str(store)) as client:
        ask_all_workers(client, "/ask", "one")
        asyncio.run(publish(store, "two"))
        ask_all_workers(client, "/ask", "two")


def test_uvicorn_reloads_a_service_and_it_goes_on_with_what_is_published(store: Path) -> None:
    port, code = free_port(), store.with_name("reloaded.py")
    code.write_text("from tests.hosts.service import app\n")
    command = ["uvicorn", "--reload", "--reload-dir", str(store.parent), "--port", str(port), "--app-dir"]
    command += [str(store.parent), "reloaded:app"]
    with running(command, port, log=store.with_name("server.log"), SERVICE_STORE=str(store)) as client:
        first = get(client, "/ask")
        asyncio.run(publish(store, "two"))
        code.write_text("from tests.hosts.service import app\nedited = True\n")
        second = block_until(lambda: answer_of_another(client, first["pid"]))
    assert (first["answer"], second["answer"]) == ("one", "two")


def answer_of_another(client: httpx.Client, pid: int) -> Any:
    """Return an answer, or None if it comes from that process or none comes."""
    try:
        answer = get(client, "/ask")
    except httpx.TransportError:  # A worker that is reloaded drops its connections.
        return None
    return None if answer["pid"] == pid else answer
