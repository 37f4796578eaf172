"""Programs in other languages serve what is published on a channel."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from simba_actors.programs import Configuration
from simba_actors.publishing.channel import Channel
from tests.support.languages import ROOT, check_elixir, process
from tests.support.openai_server import OpenAIServer
from tests.support.scripted_lm import Ask
from tests.support.students import PATIENCE

pytestmark = pytest.mark.slow

ELIXIR = ROOT / "examples" / "students" / "elixir"


def said(ask: Ask) -> dict[str, Any]:
    """Answer with the word after "Say" in the instructions, or "nothing" if there is none."""
    return {name: ask.system.partition("Say ")[2].split(".")[0] or "nothing" for name in ask.fields}


def saying(word: str) -> Configuration:
    return Configuration.of({name: (f"Say {word}.", []) for name in ("hint", "answer")})


async def publish(store: Path, word: str) -> None:
    async with await Channel.open(store, "default") as publisher:
        await publisher.publish(saying(word), reason=f"say {word}")


async def publish_beside_a_canary(store: Path) -> None:
    await publish(store, "one")
    async with await Channel.open(store, "default") as publisher:
        await publisher.start_canary(saying("two"), share=0.5, expected=1, reason="try two")


def post(address: str, **fields: Any) -> dict[str, Any]:
    return httpx.post(address, json=fields, timeout=PATIENCE).json()


def answer(address: str) -> str:
    return post(address, question="What?")["answer"]


def until(address: str, *words: str) -> None:
    """Return as soon as the program answers one of `words`."""
    wait_until(lambda: answer(address) in words)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.05)


@contextmanager
def follower(
    language: str, store: str, lm: str, request: pytest.FixtureRequest, cache: Path | None = None
) -> Generator[str]:
    """Run the program in a language, following the default channel of a store."""
    environment = {"PORT": "0", "STORE": store, "OPENAI_BASE_URL": lm, "CACHE": str(cache or "")}
    if language == "typescript":
        folder = request.getfixturevalue("node_folder")
        command = ["node", "--import", "tsx", "serve.ts"]
    else:
        check_elixir()
        folder, command = ELIXIR, ["elixir", "serve.exs"]
    with process(command, folder, 1, **environment) as (address,):
        yield address


def reported(store: Path) -> list[tuple[str, float]]:
    with closing(sqlite3.connect(store)) as db:
        return db.execute("SELECT call_id, score FROM reports").fetchall()


def test_typescript_keeps_what_it_served_and_reports_scores_once(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    file, cache = tmp_path / "simba.db", tmp_path / "cache.json"
    asyncio.run(publish_beside_a_canary(file))
    with OpenAIServer(said) as lm, ExitStack() as stack:
        command = [sys.executable, "-m", "simba_actors", "serve", "--channels", "--port", "0", "--store", file]
        (store,) = stack.enter_context(process(command, tmp_path, 1))
        with follower("typescript", store.rstrip("/"), lm.address, request, cache) as address:
            until(address, "one", "two")
            before = [post(address, question="What?", user="ann") for _ in range(3)]
            for _ in range(2):
                post(f"{address}/score", call=before[0]["call"], score=0.5)
            wait_until(lambda: reported(file) == [(before[0]["call"], 0.5)])
        stack.close()
        assert stat.S_IMODE(cache.stat().st_mode) == 0o600
        with follower("typescript", store.rstrip("/"), lm.address, request, cache) as address:
            after = post(address, question="What?", user="ann")
    assert [each["version"] for each in before] == [after["version"]] * 3
    assert after["answer"] == ("one" if after["version"] == 1 else "two")


@pytest.mark.parametrize("language", ["typescript", "elixir"])
async def test_what_is_published_is_what_it_serves(
    tmp_path: Path, language: str, request: pytest.FixtureRequest
) -> None:
    file = tmp_path / "simba.db"
    await publish(file, "one")
    with OpenAIServer(said) as lm, ExitStack() as stack:
        command = [sys.executable, "-m", "simba_actors", "serve", "--channels", "--port", "0", "--store", file]
        (store,) = stack.enter_context(process(command, tmp_path, 1))
        with follower(language, store.rstrip("/"), lm.address, request) as address:
            until(address, "one")
            await publish(file, "two")
            until(address, "two")
            stack.close()
            assert answer(address) == "two"  # The last known configuration serves while the store is down.
