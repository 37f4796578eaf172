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
from simba_actors.cli.curve import ASCII, CurvePoint, score_curve
from simba_actors.store import Reader
from simba_actors.store.queries import run_queries
from tests.support.runs import small_config
from tests.support.waiting import PATIENCE


def curve(*points: CurvePoint, student: float | None = None, width: int = 30) -> list[str]:
    text = score_curve(points, student, width=width, height=3, glyphs=ASCII).plain
    return [line.rstrip() for line in text.splitlines()]


def test_the_curve_has_a_mark_for_each_step_at_the_height_of_its_score() -> None:
    points = CurvePoint(best=0.5, sampled=0.0), CurvePoint(best=1.0, sampled=0.5)
    assert curve(*points)[:3] == [" 1.000     *", " 0.500 *   o", " 0.000 o"]


def test_the_curve_has_a_line_for_the_student() -> None:
    assert curve(CurvePoint(best=1.0, sampled=0.0), student=0.5, width=12)[:3] == [
        " 1.000 *",
        " 0.500 -----",
        " 0.000 o",
    ]


def test_the_curve_has_the_interval_of_each_score() -> None:
    assert curve(CurvePoint(best=0.5, low=0.0, high=1.0))[:3] == [" 1.000 |", " 0.500 *", " 0.000 |"]


def test_many_steps_share_the_columns_that_there_are() -> None:
    lines = curve(*(CurvePoint(best=number / 999) for number in range(1000)), width=40)
    assert max(map(len, lines[:3])) == 40


def test_equal_scores_are_a_flat_curve() -> None:
    assert curve(CurvePoint(best=0.5), CurvePoint(best=0.5))[1] == " 0.500 *   *"


def test_without_scores_the_curve_says_so() -> None:
    assert curve(CurvePoint()) == ["no step has scores yet"]


@pytest.mark.parametrize("followed", ["from the start", "afterwards"])
async def test_a_terminal_shows_the_curve_the_pool_and_the_end(tmp_path: Path, followed: str) -> None:
    store = tmp_path / "simba.db"
    async with await Optimizer.start(small_config(store, run_id="live")) as optimizer:
        if followed == "afterwards":
            await optimizer.result(PATIENCE)
        shown = await watched_in_a_terminal(store, "live")
        last = shown[shown.rindex("live  finished") :]
    assert "● best program so far" in last
    assert re.search(r"step 2/2, (best|student) 0\.\d+ \([\d.]+ to [\d.]+\), finished, [\d,]+ tokens, ", last)


async def test_slots_in_use_are_stored_as_a_number(tmp_path: Path) -> None:
    async with await Optimizer.start(small_config(tmp_path / "simba.db", run_id="live")) as optimizer:
        await optimizer.result(PATIENCE)
        async with await Reader.open(optimizer.store) as store:
            running = {gauge.actor: gauge.running for gauge in await store.ask(run_queries.gauges, "live")}
            summary = await store.ask(run_queries.summary, "live")
    assert isinstance(running.pop("sampler"), int)
    assert set(running.values()) == {None}
    assert summary.rollouts_running is None  # The run is over.


async def watched_in_a_terminal(store: Path, run_id: str) -> str:
    """Return what `watch` writes to a terminal until it ends, without colours and cursor movements."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "simba_actors", "watch", run_id, "--store", str(store)]
    size = {"COLUMNS": "120", "LINES": "40", "TERM": "xterm", "PYTHONIOENCODING": "utf-8"}
    process = await asyncio.create_subprocess_exec(*command, stdout=theirs, env={**os.environ, **size})
    os.close(theirs)
    reading = asyncio.create_task(asyncio.to_thread(_read_all, ours))
    try:
        assert await asyncio.wait_for(process.wait(), PATIENCE) == 0
    finally:
        if process.returncode is None:
            process.kill()  # Or its output would never end.
        shown = await asyncio.wait_for(reading, PATIENCE)
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
