"""A run and live calls in a real Jupyter kernel, whose event loop runs all the time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import KernelManager

from tests.support.router import EXAMPLES
from tests.support.waiting import PATIENCE


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    # Over sockets in a folder: ports that were free when they were chosen may be taken when they are used.
    manager: Any = KernelManager(transport="ipc", ip=str(tmp_path_factory.mktemp("kernel") / "k"))
    manager.start_kernel(cwd=str(Path.cwd()))
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=PATIENCE)
        yield client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def execute(kernel: Any, cell: str) -> str:
    """Run a cell and return what it prints."""
    return outputs(kernel, cell)[0]


def outputs(kernel: Any, cell: str) -> tuple[str, list[str]]:
    """Run a cell and return what it prints, and what it shows as HTML."""
    printed: list[str] = []
    shown: list[str] = []

    def hear(message: Any) -> None:
        content = message["content"]
        match message["msg_type"]:
            case "stream" if content["name"] == "stdout":
                printed.append(content["text"])
            case "execute_result" | "display_data" | "update_display_data":
                shown.append(content["data"].get("text/html", ""))
            case "error":
                raise AssertionError("\n".join(content["traceback"]))
            case _:
                pass

    kernel.execute_interactive(cell, timeout=PATIENCE, output_hook=hear)
    return "".join(printed).strip(), shown


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


def test_progress_is_drawn_in_the_output_of_the_cell(kernel: Any, tmp_path: Path) -> None:
    cell = f"""
from simba_actors import Optimizer, optimizer
from tests.support.runs import small_config
optimizer.FAREWELL_SECONDS = {PATIENCE}  # However busy the machine is.
async with Optimizer.start(small_config({str(tmp_path / "simba.db")!r}, progress=True)) as run:
    await run.result()
"""
    _, shown = outputs(kernel, cell)
    assert "<progress" in shown[0]
    assert "finished" in shown[-1]


def test_the_notebook_of_the_examples_runs(kernel: Any, tmp_path: Path) -> None:
    notebook = json.loads((EXAMPLES / "notebook.ipynb").read_text(encoding="utf-8"))
    code = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    execute(kernel, f"import os, sys\nos.chdir({str(tmp_path)!r})\nsys.path.insert(0, {str(EXAMPLES)!r})")
    printed, shown = (list(parts) for parts in zip(*(outputs(kernel, cell) for cell in code), strict=True))
    html = "".join(part for parts in shown for part in parts)
    assert "winner" in html
    student, winner = (float(line.split()[0]) for line in "\n".join(filter(None, printed)).splitlines())
    assert winner > student
    assert (tmp_path / "router.json").exists()


def test_the_notebook_is_kept_without_outputs() -> None:
    notebook = json.loads((EXAMPLES / "notebook.ipynb").read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [(cell["outputs"], cell["execution_count"]) for cell in code] == [([], None)] * len(code)
