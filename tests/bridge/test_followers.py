"""Programs in other languages serve what is published on a channel."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
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


async def publish(store: Path, word: str) -> None:
    configuration = Configuration.of({name: (f"Say {word}.", []) for name in ("hint", "answer")})
    async with await Channel.open(store, "default") as publisher:
        await publisher.publish(configuration, reason=f"say {word}")


def answer(address: str) -> str:
    return httpx.post(address, json={"question": "What?"}, timeout=PATIENCE).json()["answer"]


def until(address: str, word: str) -> None:
    """Return as soon as the program answers `word`."""
    deadline = time.monotonic() + PATIENCE
    while (found := answer(address)) != word:
        assert time.monotonic() < deadline, f"the program still answers {found!r}"
        threading.Event().wait(0.05)


@contextmanager
def follower(language: str, store: str, lm: str, request: pytest.FixtureRequest) -> Generator[str]:
    """Run the program in a language, following the default channel of a store."""
    environment = {"PORT": "0", "STORE": store, "OPENAI_BASE_URL": lm}
    if language == "typescript":
        folder = request.getfixturevalue("node_folder")
        command = ["node", "--import", "tsx", "serve.ts"]
    else:
        check_elixir()
        folder, command = ELIXIR, ["elixir", "serve.exs"]
    with process(command, folder, 1, **environment) as (address,):
        yield address


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
