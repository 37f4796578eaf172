"""The quick start with a provider on loopback, killed and run again. Each process has its own cache of replies."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.openai_server import OpenAIServer
from tests.support.router import EXAMPLES, halves, knows_with_demos
from tests.support.scripted_lm import Ask
from tests.support.waiting import limited

LATENCY = 0.005
LIMIT = 600.0
"""Seconds after which the example has failed."""


@dataclass
class Stored:
    """The rollouts that have a result, and the number of calls that the run made."""

    rollouts: set[tuple[Any, ...]]
    calls: int
    surely_of_the_run: int


@dataclass
class Lives:
    """What was stored when the first process was killed and when the second ended, and what the second called."""

    left: Stored
    ended: Stored
    asked: int
    output: str


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory) -> Lives:
    directory = tmp_path_factory.mktemp("quickstart")
    store = directory / "quickstart.db"
    with provider() as first, start(store, first, directory / "first") as process, limited(process, LIMIT):
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("step 2/"):
                process.kill()
                break
    left = stored(store)
    with provider() as second, start(store, second, directory / "second") as process, limited(process, LIMIT):
        output, errors = process.communicate()
    assert process.returncode == 0, errors
    return Lives(left, stored(store), sum(map(is_surely_of_the_run, second.asks)), output)


def provider() -> OpenAIServer:
    return OpenAIServer(knows_with_demos(), latency=LATENCY)


def start(store: Path, provider: OpenAIServer, cache: Path) -> subprocess.Popen[str]:
    command = [sys.executable, str(EXAMPLES / "quickstart.py"), "--store", str(store)]
    command += ["--model", "openai/scripted", "--api-base", provider.address]
    variables = {"OPENAI_API_KEY": "none", "DSPY_CACHEDIR": str(cache)}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **variables}
    )


def stored(store: Path) -> Stored:
    with closing(sqlite3.connect(store)) as db:
        done = db.execute(
            "SELECT example, calls, step, phase, position, seconds FROM rollouts WHERE outcome IS NOT NULL"
        ).fetchall()
        (of_rules,) = db.execute("SELECT SUM(calls) FROM proposals").fetchone()
    train, held_out = halves()
    messages = list(train)
    surely = sum(calls for example, calls, *_ in done if messages[example] not in held_out)
    return Stored(set(done), of_rules + sum(calls for _, calls, *_ in done), of_rules + surely)


def is_surely_of_the_run(ask: Ask) -> bool:
    """Return whether the run made the call: the measurement after the run asks about held-out messages alone."""
    return "module_advice" in ask.fields or ask.input("message") not in halves()[1]


def test_a_killed_quick_start_continues_to_its_end(lives: Lives) -> None:
    assert re.search(r"^  winner +[\d.]+%", lives.output, re.MULTILINE)
    assert f"spent:      {lives.ended.calls:,} calls" in lives.output


def test_a_killed_quick_start_keeps_every_rollout_that_was_stored(lives: Lives) -> None:
    assert lives.left.rollouts
    assert lives.left.rollouts < lives.ended.rollouts


def test_a_killed_quick_start_asks_only_for_what_was_not_stored(lives: Lives) -> None:
    assert lives.asked == lives.ended.surely_of_the_run - lives.left.surely_of_the_run
