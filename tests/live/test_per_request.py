"""A live program for each request leaves no thread, file handle or task behind, and both ways of calling agree."""

from __future__ import annotations

import asyncio
import gc
import threading
from pathlib import Path
from typing import Any, ClassVar

import anyio
import dspy
import pytest

from simba_actors.live import LiveProgram
from simba_actors.live.background import THREADS
from tests.support.live import answer, publish, said, sayer
from tests.support.scripted_lm import ScriptedLM
from tests.support.waiting import PATIENCE, until

REQUESTS = 1_000
REQUESTS_WITHOUT_HISTORY = 20


def handles() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def our_threads() -> int:
    return sum(thread.name.startswith("simba_actors") for thread in threading.enumerate())


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
async def test_a_thousand_live_programs_leave_nothing_behind(tmp_path: Path) -> None:
    store, student = tmp_path / "simba.db", sayer()
    await publish(store, "one")

    async def request() -> None:
        live = LiveProgram(student, store=store, metric=lambda example, prediction: 1.0, keep_examples=1)
        assert await answer(live) == "one"

    threads_before = our_threads()
    await request()
    before = handles(), len(asyncio.all_tasks())
    for _ in range(REQUESTS):
        await request()
    gc.collect()
    handles_before, tasks_before = before
    # A few may belong to a transaction of the one writer that is under way, or to another test of this process.
    assert handles() <= handles_before + REQUESTS // 20
    assert len(asyncio.all_tasks()) == tasks_before
    assert our_threads() <= threads_before + 8


async def test_requests_leave_no_prediction_and_no_program_behind_where_dspy_keeps_none(tmp_path: Path) -> None:
    store, student = tmp_path / "simba.db", sayer()
    await publish(store, "one")
    shared = LiveProgram(student, store=store)

    async def request() -> None:
        for live in (shared, LiveProgram(student, store=store)):
            assert await answer(live) == "one"

    def held() -> int:
        gc.collect()
        return sum(isinstance(each, dspy.Prediction | dspy.Module) for each in gc.get_objects())

    with dspy.context(disable_history=True, max_trace_size=0):
        await request()
        before = held()
        for _ in range(REQUESTS_WITHOUT_HISTORY):
            await request()
        # Threads that earlier tests left in this process may make a few. Requests would leave at least one each.
        assert held() < before + REQUESTS_WITHOUT_HISTORY


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
async def test_live_programs_of_a_store_that_cannot_be_written_share_one_thread(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = our_threads()
    for number in range(50):
        live = LiveProgram(sayer(), store=tmp_path / "none.db")
        live.report(1.0, f"1.1.{number}")
    await until(lambda: "scores can't be stored yet" in caplog.text)
    assert our_threads() <= before + 1


class Rendezvous(dspy.Module):
    """A sync student whose first calls return together, once as many have begun as may run at a time."""

    meet = threading.Barrier(THREADS)
    lock = threading.Lock()
    running: ClassVar[set[str]] = set()
    most_running = 0

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    def forward(self, question: str) -> dspy.Prediction:
        with self.lock:
            self.running.add(question)
            Rendezvous.most_running = max(self.most_running, len(self.running))
        if int(question) < THREADS:
            self.meet.wait(timeout=PATIENCE)
        with self.lock:
            self.running.discard(question)
        return dspy.Prediction(answer=question)


async def test_a_bounded_number_of_sync_students_run_at_a_time(tmp_path: Path) -> None:
    live: Any = LiveProgram(Rendezvous(), store=tmp_path / "none.db")
    answers = await asyncio.gather(*(live.acall(question=str(number)) for number in range(10 * THREADS)))
    assert [prediction.answer for prediction in answers] == [str(number) for number in range(10 * THREADS)]
    assert Rendezvous.most_running == THREADS


class Waiting(dspy.Module):
    """A sync student that returns when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    def forward(self, question: str, release: threading.Event, running: list[str]) -> dspy.Prediction:
        running.append(question)
        release.wait(timeout=PATIENCE)
        return dspy.Prediction(answer=question)


async def test_calls_that_are_cancelled_count_until_their_threads_are_free(tmp_path: Path) -> None:
    live: Any = LiveProgram(Waiting(), store=tmp_path / "none.db")
    release, running = threading.Event(), list[str]()

    async def impatient(number: int) -> None:
        with anyio.move_on_after(0.02):
            await live.acall(question=str(number), release=release, running=running)

    for _ in range(3):
        await asyncio.gather(*(impatient(number) for number in range(THREADS)))
    assert len(running) <= THREADS
    release.set()
    assert (await live.acall(question="last", release=release, running=running)).answer == "last"


async def test_sync_students_that_take_long_delay_no_other_live_program(tmp_path: Path) -> None:
    slow: Any = LiveProgram(Waiting(), store=tmp_path / "none.db")
    release, running = threading.Event(), list[str]()
    calls = [asyncio.create_task(slow.acall(question="", release=release, running=running)) for _ in range(2 * THREADS)]
    await until(lambda: len(running) == THREADS)
    await publish(tmp_path / "simba.db", "one")
    async with asyncio.timeout(PATIENCE):
        assert await answer(LiveProgram(sayer(), store=tmp_path / "simba.db")) == "one"
    release.set()
    await asyncio.gather(*calls)


class Shout(dspy.ChainOfThought):
    """A module with its own `forward` and an inherited `aforward`."""

    def forward(self, **kwargs: Any) -> Any:
        prediction = super().forward(**kwargs)
        prediction.answer = prediction.answer.upper()
        return prediction


class Whisper(dspy.Module):
    """A module with an async side only."""

    def __init__(self) -> None:
        super().__init__()
        self.ask: Any = dspy.Predict("question -> answer")

    async def aforward(self, question: str) -> Any:
        return await self.ask.acall(question=question)


@pytest.mark.parametrize(
    ("student", "predictor", "expected"),
    [(lambda: Shout("question -> answer"), "predict", "ONE"), (Whisper, "ask", "one")],
    ids=["forward overridden", "aforward alone"],
)
@pytest.mark.parametrize("published", [False, True])
async def test_both_ways_of_calling_run_the_method_that_the_class_defines(
    published: bool, student: Any, predictor: str, expected: str, tmp_path: Path
) -> None:
    if published:
        await publish(tmp_path / "simba.db", "one", predictor=predictor)
    live = LiveProgram(student(), store=tmp_path / "simba.db")
    with dspy.context(lm=ScriptedLM(lambda ask: {"reasoning": "?", "answer": said(ask)["answer"]})):
        said_now = [await answer(live), live(question="?").answer]
    nothing = "NOTHING" if expected.isupper() else "nothing"
    assert said_now == ([expected] * 2 if published else [nothing] * 2)
