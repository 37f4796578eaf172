"""Progress in the terminal."""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from simba_actors import Optimizer
from simba_actors.errors import MetricError
from simba_actors.events import Event, RunFailed, RunFinished, RunPaused, StepOpened
from simba_actors.observe import show_progress
from simba_actors.observe.progress import display_on, follow_progress
from simba_actors.observe.wording import duration, progress_line, utc_time
from simba_actors.store import Reader
from simba_actors.store.queries import run_queries
from tests.support.hostile import STEERING
from tests.support.runs import finish, reach, small_config
from tests.support.waiting import PATIENCE


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


async def shown(store: Path, stream: io.StringIO) -> str:
    async with await Optimizer.start(small_config(store)) as optimizer, show_progress(optimizer, stream):
        await optimizer.result(PATIENCE)
    return stream.getvalue()


async def test_without_a_terminal_each_step_has_a_line_and_the_end_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await finish(small_config(tmp_path / "simba.db", progress=True))
    lines = [line for line in capsys.readouterr().err.splitlines() if "WARNING" not in line]
    assert [line.partition(",")[0] for line in lines if line.startswith("step")] == ["step 1/2", "step 2/2"]
    assert lines[-1].startswith("finished: program")


async def test_a_line_tells_best_score_rollouts_rate_and_spending(tmp_path: Path) -> None:
    await finish(small_config(tmp_path / "simba.db", run_id="run"))
    async with await Reader.open(tmp_path / "simba.db") as store:
        ended = await store.ask(run_queries.summary, "run")
    running = replace(ended, run=replace(ended.run, status="running"))
    line = progress_line(running, rate=2.0, step=1)
    assert line.startswith("step 1/2, best 0.")
    assert all(word in line for word in ("student 0.", "rollouts at 2.0/s", "tokens", "left"))


@pytest.mark.parametrize("policy", ["dspy", "adaptive"])
async def test_the_best_program_never_looks_worse_than_the_student(
    policy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await finish(small_config(tmp_path / "simba.db", policy=policy, max_steps=3, progress=True))
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("step")]
    pairs = [re.findall(r"(?:best|student) ([\d.]+) \([\d.]+ to [\d.]+\)", line) for line in lines]
    assert len(pairs) == 3
    assert all(pair == sorted(pair, reverse=True) for pair in pairs)


async def test_the_student_and_the_winner_have_one_score_in_all_places(tmp_path: Path) -> None:
    stream = io.StringIO()
    async with await Optimizer.start(small_config(tmp_path / "simba.db")) as optimizer:
        result = await optimizer.result(PATIENCE)
        status, finished = await optimizer.status(), await reach(optimizer, RunFinished)
        async with await Reader.open(optimizer.store) as queries:
            summary = await queries.ask(run_queries.summary, result.run_id)
    with display_on(stream) as display:
        display.show_event(finished, summary, None)
    winner, student = result.finalists[0], result.student
    assert status.best is not None
    assert student is not None
    assert (status.best, status.student) == (summary.best, summary.student)
    assert (status.best.program, status.best.score) == (winner.number, pytest.approx(winner.score))
    assert (status.best.low, status.best.high) == (winner.low, winner.high)
    assert f"student {student.score:.2f} ({student.low:.2f} to {student.high:.2f})" in progress_line(summary)
    assert f"best {winner.score:.2f} ({winner.low:.2f} to {winner.high:.2f})" in progress_line(summary)
    assert f"winner:     {winner.score:.3f} ({winner.low:.3f} to {winner.high:.3f})" in str(result)
    assert stream.getvalue() == f"finished: program {winner.number} with {winner.score:.3f}\n"
    assert finished.score == result.score == winner.score


async def test_a_terminal_of_80_columns_has_room_for_a_bar_the_score_and_the_spending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    last = (await shown(tmp_path / "simba.db", Terminal())).rpartition("\x1b[2K")[2]
    assert re.search(r"━.* step 2/2, (best|student) 0\.\d+ \([\d.]+ to [\d.]+\), finished, [\d,]+ tokens", last)


async def test_nothing_is_printed_unless_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await finish(small_config(tmp_path / "simba.db"))
    captured = capsys.readouterr()
    assert (captured.out, "step" in captured.err) == ("", False)


async def test_progress_ends_when_the_run_is_stopped(tmp_path: Path) -> None:
    before = asyncio.all_tasks()
    optimizer = await Optimizer.start(small_config(tmp_path / "simba.db", progress=True))
    await optimizer.stop()
    assert asyncio.all_tasks() == before


async def test_a_broken_stream_does_not_harm_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr("sys.stderr", closed)
    result = await finish(small_config(tmp_path / "simba.db", progress=True))
    assert result.score > 0


async def test_what_the_block_raises_is_raised_as_it_is(tmp_path: Path) -> None:
    def metric(*_: Any) -> float:
        raise ZeroDivisionError

    config = small_config(tmp_path / "simba.db", metric=metric)
    with pytest.raises(MetricError):
        async with await Optimizer.start(config) as optimizer, show_progress(optimizer, io.StringIO()):
            await optimizer.result(PATIENCE)


async def test_a_stream_that_breaks_in_the_block_does_not_harm_it(tmp_path: Path) -> None:
    closed = io.StringIO()
    closed.close()
    config = small_config(tmp_path / "simba.db")
    async with await Optimizer.start(config) as optimizer, show_progress(optimizer, closed):
        result = await optimizer.result(PATIENCE)
    assert result.score > 0


class Over:
    """A run whose last event is followed."""

    def __init__(self, store: Path, run_id: str) -> None:
        self.store, self.run_id = store, run_id

    async def events(self, after: int = 0) -> AsyncGenerator[Event]:
        yield RunFinished(program=0, score=0.5)


async def test_a_reader_that_goes_away_is_reported_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_: str) -> int:
        raise BrokenPipeError

    await finish(small_config(tmp_path / "simba.db", run_id="run"))
    stream = io.StringIO()
    monkeypatch.setattr(stream, "write", gone)
    with pytest.raises(BrokenPipeError):
        await follow_progress(Over(tmp_path / "simba.db", "run"), stream)


async def test_nothing_is_shown_after_the_block(tmp_path: Path) -> None:
    stream = io.StringIO()
    async with await Optimizer.start(small_config(tmp_path / "simba.db")) as optimizer:
        async with show_progress(optimizer, stream):
            await reach(optimizer, StepOpened)
        shown_in_the_block = stream.getvalue()
        await optimizer.result(PATIENCE)
    assert stream.getvalue() == shown_in_the_block


@pytest.mark.parametrize("event", [RunPaused(reason=STEERING), RunFailed(reason=STEERING)])
async def test_what_a_line_quotes_cannot_steer_the_terminal(tmp_path: Path, event: Event) -> None:
    assert "\\x1b[31mred" in await shown_for(event, tmp_path / "simba.db", io.StringIO())


async def test_what_the_bar_quotes_cannot_steer_the_terminal(tmp_path: Path) -> None:
    assert "\\x1b[31mred" in await shown_for(RunPaused(reason=STEERING), tmp_path / "simba.db", Terminal())


async def shown_for(event: Event, store: Path, stream: io.StringIO) -> str:
    await finish(small_config(store, run_id="run"))
    async with await Reader.open(store) as queries:
        summary = await queries.ask(run_queries.summary, "run")
    with display_on(stream) as display:
        display.show_event(event, summary, None)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.23, "4.2 s"), (59.7, "1:00"), (187, "3:07"), (7387, "2:03:07"), (0, "0.0 s")]
)
def test_durations_are_in_clock_form(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize("hours", [-14, 14])
@pytest.mark.parametrize("seconds", [-float("inf"), -1e12, 253_402_300_799.0, 1e300, float("nan")])
def test_every_time_has_a_date_in_every_time_zone(seconds: float, hours: int) -> None:
    assert 1 <= utc_time(seconds).astimezone(timezone(timedelta(hours=hours))).year <= 9999
