"""Pausing, resuming and stopping a run that another process has open."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import sys
from pathlib import Path

import pytest

from simba_actors import Optimizer
from simba_actors.errors import RunStoppedError
from simba_actors.events import RunPaused, RunResumed, StepClosed
from tests.support.command_line import run_command
from tests.support.quiz import quiz_script
from tests.support.runs import finish, reach, small_config
from tests.support.scripted_lm import ScriptedLM, slow_after
from tests.support.waiting import PATIENCE, until

CALLS = 100
"""LM calls that are answered. They are enough for a step, and the run is not over before it is asked to pause."""


async def command(*arguments: str) -> str:
    """Run a command as a process of its own, and return what it prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "simba_actors", *arguments, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert process.returncode == 0
    return out.decode()


async def test_a_run_is_paused_and_resumed_from_another_process(tmp_path: Path) -> None:
    store = tmp_path / "simba.db"
    config = small_config(store, run_id="live", lm=ScriptedLM(quiz_script, latency=slow_after(CALLS)), max_steps=40)
    async with await Optimizer.start(config) as optimizer:
        await reach(optimizer, StepClosed)
        assert "asked its process, which pauses" in await command("pause", "live", "-m", "lunch", "--store", str(store))
        assert "lunch" in (await reach(optimizer, RunPaused)).reason
        assert (await optimizer.status()).status == "paused"
        assert json.loads(await command("resume", "--json", "--store", str(store))) == {
            "run_id": "live",
            "request": "resume",
        }
        await reach(optimizer, RunResumed)


async def test_a_run_is_stopped_from_another_process(tmp_path: Path) -> None:
    store = tmp_path / "simba.db"
    config = small_config(store, run_id="live", lm=ScriptedLM(quiz_script, latency=slow_after(CALLS)), max_steps=40)
    async with await Optimizer.start(config) as optimizer:
        await reach(optimizer, StepClosed)
        await command("stop", "live", "--store", str(store))
        with pytest.raises(RunStoppedError):
            await optimizer.result(PATIENCE)


async def test_a_run_that_was_stopped_and_resumed_waits_for_a_process_and_says_so(tmp_path: Path) -> None:
    store = tmp_path / "simba.db"
    config = small_config(store, run_id="live", lm=ScriptedLM(quiz_script, latency=slow_after(CALLS)), max_steps=40)
    async with await Optimizer.start(config) as optimizer:
        await reach(optimizer, StepClosed)
        assert json.loads(await command("show", "--json", "--store", str(store)))["process"].startswith(
            f"{os.getpid()}@"
        )
        await command("stop", "live", "--store", str(store))
        with pytest.raises(RunStoppedError):
            await asyncio.wait_for(optimizer.result(), PATIENCE)
    assert "no process has it open, so it resumes once" in await command("resume", "live", "--store", str(store))
    assert "running (open in no process)" in await command("runs", "--store", str(store))
    shown = await command("show", "--store", str(store))
    assert shown.startswith(
        "live: running\nno process has it open: it continues once one starts it with the same config\n"
    )


def test_a_run_that_is_finished_says_so(tmp_path: Path) -> None:
    asyncio.run(finish(small_config(tmp_path / "simba.db", run_id="done", max_steps=1)))
    result = run_command(["pause", "--store", str(tmp_path / "simba.db")])
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "run 'done' is finished, so there is nothing to pause" in result.stderr


async def test_keys_pause_and_resume_a_run_that_is_watched(tmp_path: Path) -> None:
    store = tmp_path / "simba.db"
    config = small_config(store, run_id="live", lm=ScriptedLM(quiz_script, latency=slow_after(CALLS)), max_steps=40)
    async with await Optimizer.start(config) as optimizer:
        await reach(optimizer, StepClosed)
        ours, theirs = pty.openpty()
        environment = {**os.environ, "COLUMNS": "120", "LINES": "40", "TERM": "xterm", "PYTHONIOENCODING": "utf-8"}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "simba_actors", "watch", "--store", str(store)),
            stdin=theirs,
            stdout=theirs,
            env=environment,
        )
        os.close(theirs)
        shown: list[str] = []
        reading = asyncio.create_task(asyncio.to_thread(_collect, ours, shown))
        try:
            await until_shown(shown, r"p pause +r resume +q leave")
            os.write(ours, b"p")
            await reach(optimizer, RunPaused)
            await until_shown(shown, "asked to pause")
            os.write(ours, b"r")
            await reach(optimizer, RunResumed)
            os.write(ours, b"q")
            assert await asyncio.wait_for(process.wait(), PATIENCE) == 0
        finally:
            if process.returncode is None:
                process.kill()
                await asyncio.wait_for(process.wait(), PATIENCE)
            await asyncio.wait_for(reading, PATIENCE)
            os.close(ours)
    assert "slots" in "".join(shown)


async def until_shown(shown: list[str], pattern: str) -> None:
    await until(lambda: re.search(pattern, "".join(shown)))


def _collect(terminal: int, shown: list[str]) -> None:
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # EIO: the other end is closed.
            return
        if not part:
            return
        shown.append(part.decode(errors="replace"))
