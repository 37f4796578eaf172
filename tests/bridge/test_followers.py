"""Programs in other languages serve what is published on a channel."""

from __future__ import annotations

import stat
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from simba_actors.programs import Configuration
from simba_actors.publishing.channel import Channel
from tests.support.hosts import free_port
from tests.support.languages import ROOT, check_elixir, process
from tests.support.openai_server import OpenAIServer
from tests.support.scripted_lm import Ask
from tests.support.waiting import PATIENCE, block_until

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


def answer(address: str) -> str:
    return httpx.post(address, json={"question": "What?"}, timeout=PATIENCE).json()["answer"]


@contextmanager
def follower(language: str, store: str, lm: str, cache: Path, request: pytest.FixtureRequest) -> Generator[str]:
    """Run the program in a language, following the default channel of a store."""
    environment = {"PORT": "0", "STORE": store, "OPENAI_BASE_URL": lm, "CACHE": str(cache)}
    if language == "typescript":
        folder = request.getfixturevalue("node_folder")
        command = ["node", "--import", "tsx", "follower.ts"]
    else:
        check_elixir()
        folder, command = ELIXIR, ["elixir", "follower.exs"]
    with process(command, folder, 1, **environment) as (address,):
        yield address


@contextmanager
def served(file: Path) -> Generator[str]:
    """Serve the channels of a store in a process of its own."""
    command = [sys.executable, "-m", "simba_actors", "serve", "--channels", "--port", "0", "--store", file]
    with process(command, file.parent, 1) as (store,):
        yield store.rstrip("/")


@pytest.mark.parametrize("language", ["typescript", "elixir"])
async def test_what_is_published_is_what_it_serves_also_after_a_start_without_the_store(
    tmp_path: Path, language: str, request: pytest.FixtureRequest
) -> None:
    file, cache = tmp_path / "simba.db", tmp_path / "cache"
    await publish(file, "one")
    with OpenAIServer(said) as lm:
        with ExitStack() as stack:
            store = stack.enter_context(served(file))
            with follower(language, store, lm.address, cache, request) as address:
                block_until(lambda: answer(address) == "one")
                await publish(file, "two")
                block_until(lambda: answer(address) == "two")
                stack.close()
                assert answer(address) == "two"
        with follower(language, store, lm.address, cache, request) as address:
            assert answer(address) == "two"
    assert stat.S_IMODE(cache.stat().st_mode) == 0o600


@pytest.mark.parametrize("language", ["typescript", "elixir"])
def test_a_damaged_cache_is_ignored(tmp_path: Path, language: str, request: pytest.FixtureRequest) -> None:
    cache = tmp_path / "cache"
    cache.write_text('0123\n{"current": {"version": 1}, "configurations": {"1": {}}}')
    with (
        OpenAIServer(said) as lm,
        follower(language, f"http://127.0.0.1:{free_port()}", lm.address, cache, request) as address,
    ):
        assert answer(address) == "nothing"
