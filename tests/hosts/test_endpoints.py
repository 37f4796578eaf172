"""What an application returns from its own HTTP endpoints."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.testclient import TestClient

from simba_actors import Optimizer
from tests.support.runs import small_config


def test_a_status_is_a_few_kilobytes_of_json(tmp_path: Path) -> None:
    config = small_config(tmp_path / "simba.db", max_steps=12)
    running = list[Optimizer]()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        async with Optimizer.start(config) as optimizer:
            running.append(optimizer)
            yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/status")
    async def status() -> Any:  # pyright: ignore[reportUnusedFunction]
        return await running[0].status()

    @app.get("/finish")
    async def finish() -> int:  # pyright: ignore[reportUnusedFunction]
        return (await running[0].result()).steps

    with TestClient(app) as client:
        assert client.get("/finish").json() == 12
        answer = client.get("/status")
    assert (answer.status_code, answer.json()["steps_closed"]) == (200, 12)
    assert len(answer.content) < 8_000
