"""A store with a finished run full of hostile text, and a client of its dashboard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from simba_actors.web import dashboard
from tests.support.hostile import hostile_script
from tests.support.quiz import questions
from tests.support.runs import finish, small_config
from tests.support.scripted_lm import ScriptedLM

RUN = "colours/of balls"


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("web") / "simba.db"
    lm = ScriptedLM(hostile_script)
    config = small_config(path, run_id=RUN, lm=lm, prompt_model=lm, trainset=questions(6), num_candidates=3)
    asyncio.run(finish(config))
    return path


@pytest.fixture
async def client(store: Path) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(dashboard(store))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield client
