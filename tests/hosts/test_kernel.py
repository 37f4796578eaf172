"""A run and live calls in a real Jupyter kernel, whose event loop runs all the time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import KernelManager

from tests.support.hosts import HARD_LIMIT


@pytest.fixture
def kernel() -> Iterator[Any]:
    manager: Any = KernelManager()
    manager.start_kernel(cwd=str(Path.cwd()))
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=HARD_LIMIT)
        yield client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def execute(kernel: Any, cell: str) -> str:
    """Run a cell and return what it prints."""
    printed: list[str] = []

    def hear(message: Any) -> None:
        content = message["content"]
        match message["msg_type"]:
            case "stream" if content["name"] == "stdout":
                printed.append(content["text"])
            case "error":
                raise AssertionError("\n".join(content["traceback"]))
            case _:
                pass

    kernel.execute_interactive(cell, timeout=HARD_LIMIT, output_hook=hear)
    return "".join(printed).strip()


def test_cells_run_an_optimization_and_live_calls(kernel: Any, tmp_path: Path) -> None:
    store = tmp_path / "simba.db"
    imports = f"""
from simba_actors import LiveProgram, Optimizer
from tests.support.live import answer, publish, sayer
from tests.support.runs import small_config
store = __import__("pathlib").Path({str(store)!r})
"""
    execute(kernel, imports)
    execute(kernel, "optimizer = await Optimizer.start(small_config(store))")
    execute(kernel, "live = LiveProgram(sayer(), store=store)")
    assert execute(kernel, "print(live(question='?').answer, await answer(live))") == "nothing nothing"
    assert execute(kernel, "print((await optimizer.result()).steps)") == "2"
    execute(kernel, "await optimizer.stop()")
    execute(kernel, "await publish(store, 'one')")
    assert execute(kernel, "print(live(question='?').answer, await answer(live))") == "one one"
