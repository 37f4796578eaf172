"""Following a run in a terminal."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import sys
from pathlib import Path

import pytest

from simba_actors import Optimizer
from simba_actors.cli.curve import ASCII, score_curve
from simba_actors.store.pool_queries import Estimate
from simba_actors.store.queries import StepScores
from tests.support.runs import PATIENCE, small_config


def step(number: int, sampled: float | None, best: float | None) -> StepScores:
    estimates = [None if mean is None else Estimate(mean, 1, None) for mean in (sampled, best)]
    return StepScores(number, estimates[0], None, estimates[1])


def curve(*steps: StepScores, student: float | None = None, width: int = 30) -> list[str]:
    level = None if student is None else Estimate(student, 1, None)
    text = score_curve(steps, level, width=width, height=3, glyphs=ASCII).plain
    return [line.rstrip() for line in text.splitlines()]


def test_the_curve_has_a_mark_for_each_step_at_the_height_of_its_score() -> None:
    assert curve(step(0, 0.0, 0.5), step(1, 0.5, 1.0))[:3] == [" 1.000     *", " 0.500 *   o", " 0.000 o"]


def test_the_curve_has_a_line_for_the_student() -> None:
    assert curve(step(0, 0.0, 1.0), student=0.5, width=12)[:3] == [" 1.000 *", " 0.500 -----", " 0.000 o"]


def test_many_steps_share_the_columns_that_there_are() -> None:
    lines = curve(*(step(number, None, number / 999) for number in range(1000)), width=40)
    assert max(map(len, lines[:3])) == 40


def test_equal_scores_are_a_flat_curve() -> None:
    assert curve(step(0, None, 0.5), step(1, None, 0.5))[1] == " 0.500 *   *"


def test_without_scores_the_curve_says_so() -> None:
    assert curve(step(0, None, None)) == ["no step has scores yet"]


@pytest.mark.parametrize("followed", ["from the start", "afterwards"])
async def test_a_terminal_shows_the_curve_the_pool_and_the_end(tmp_path: Path, followed: str) -> None:
    store = tmp_path / "simba.db"
    async with await Optimizer.start(small_config(store, run_id="live")) as optimizer:
        if followed == "afterwards":
            await asyncio.wait_for(optimizer.result(), PATIENCE)
        shown = await asyncio.wait_for(watched_in_a_terminal(store, "live"), PATIENCE)
        last = shown[shown.rindex("live  finished") :]
    assert "● best candidate of a step" in last
    assert re.search(r"step 2/2, best 0\.\d+, finished, [\d,]+ tokens, student 0\.\d+, \d+ programs", last)


async def watched_in_a_terminal(store: Path, run_id: str) -> str:
    """What `watch` writes to a terminal until it ends, without colours and movements."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "simba_actors", "watch", run_id, "--store", str(store)]
    size = {"COLUMNS": "120", "LINES": "40", "TERM": "xterm", "PYTHONIOENCODING": "utf-8"}
    process = await asyncio.create_subprocess_exec(*command, stdout=theirs, env={**os.environ, **size})
    os.close(theirs)
    shown = await asyncio.to_thread(_read_all, ours)
    assert await process.wait() == 0
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)


def _read_all(terminal: int) -> str:
    parts: list[bytes] = []
    with os.fdopen(terminal, "rb", buffering=0) as stream:
        try:
            while part := stream.read(65536):
                parts.append(part)
        except OSError:  # EIO: the other end is closed.
            pass
    return b"".join(parts).decode()
