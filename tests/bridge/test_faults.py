"""Runs of students that die, hang, send garbage or lie end like undisturbed ones, or report the cause."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from dspy.utils.exceptions import LMInvalidRequestError

from simba_actors import Budget, Governor, Optimizer, OptimizerConfig, RemoteStudent, Retry
from simba_actors.errors import RunPausedError
from simba_actors.events import CallRetried, ExampleSetAside, TrajectorySampled
from tests.bridge.test_runs import errors_of, findings, rules
from tests.support.children import start_process
from tests.support.hosts import free_port, listens_on
from tests.support.quiz import quiz_script
from tests.support.runs import events_of, findings_in, finish, reach, small_config
from tests.support.scripted_lm import Ask, ScriptedLM
from tests.support.students import Answer, HintAndAnswer, OddStudent, quiz_service, served, succeeded
from tests.support.waiting import PATIENCE, block_until, kill

pytestmark = pytest.mark.slow


def impatient() -> Governor:
    """A governor that tries again at once."""
    return Governor(retry=Retry(base=0.01, longest=0.02, attempts=200))


def odd_config(store: Path, odd: OddStudent, **changes: Any) -> OptimizerConfig:
    student = RemoteStudent(odd.address)
    return small_config(store, **{"student": student, "governor": impatient(), "run_id": "run", **changes})


async def undisturbed(store: Path) -> dict[str, Any]:
    with OddStudent(succeeded) as odd:
        await finish(odd_config(store, odd))
    return await findings_in(store, "run")


async def disturbed(store: Path, run: Answer, **changes: Any) -> dict[str, Any]:
    with OddStudent(run) as odd:
        await finish(odd_config(store, odd, **changes))
    return await findings_in(store, "run")


class Now:
    """Answers each question wrongly the first time it is asked."""

    def __init__(self, wrong: Answer) -> None:
        self.wrong = wrong
        self.keys: dict[str, list[str]] = {}
        self.lock = threading.Lock()

    def __call__(self, request: dict[str, Any]) -> Any:
        with self.lock:
            asked = self.keys.setdefault(str([request["inputs"], request["predictors"]]), [])
            asked.append(request["key"])
        return self.wrong(request) if len(asked) == 1 else succeeded(request)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda request: b"<html>It works!</html>",
        lambda request: (200, {"Content-Length": "5000"}, b'{"key": "'),
        lambda request: succeeded(request, key="another"),
        lambda request: succeeded(request, outcome="OUTCOME_GREAT"),
        lambda request: succeeded(request, prediction=None),
        lambda request: (503, {"Retry-After": "0"}, {"code": "unavailable", "message": "starting"}),
        lambda request: (429, {}, {"code": "resource_exhausted", "message": "busy"}),
    ],
    ids=["babble", "half", "duplicate", "outcome", "no-prediction", "starting", "busy"],
)
async def test_an_answer_that_is_no_reply_is_asked_for_again(tmp_path: Path, wrong: Answer) -> None:
    found = await disturbed(tmp_path / "odd.db", Now(wrong))
    assert found == await undisturbed(tmp_path / "even.db")


async def test_a_run_is_asked_for_again_under_its_key(tmp_path: Path) -> None:
    now = Now(lambda request: (200, {"Content-Length": "5000"}, b'{"key": "'))
    await disturbed(tmp_path / "odd.db", now)
    # Runs of the same program on the same inputs may overlap, so the second request need not be the repeated one.
    assert all(asked.count(asked[0]) == 2 for asked in now.keys.values())


def serve_the_quiz(port: int) -> None:
    """Serve a student at `port` until the process is killed."""
    with served(quiz_service(lm=ScriptedLM(quiz_script, latency=0.05)), port=port):
        signal.pause()


@contextmanager
def quiz_process(port: int) -> Generator[BaseProcess]:
    """A student in a process of its own, which is killed in the end."""
    child = start_process(serve_the_quiz, port)
    try:
        block_until(lambda: listens_on(port))
        yield child
    finally:
        kill(child)


async def test_a_student_that_is_killed_and_started_again_finishes_the_run(tmp_path: Path) -> None:
    port = free_port()
    with quiz_process(port):
        student = RemoteStudent(f"http://127.0.0.1:{port}")
        # A process may take long to start, and the run must not give up before.
        governor = Governor(retry=Retry(base=0.1, longest=0.2, attempts=10_000, grace_period=600))
        settings = {"student": student, "governor": governor, "run_id": "run", "prompt_model": ScriptedLM(rules)}
        optimizer = await Optimizer.start(small_config(tmp_path / "killed.db", **settings))
        await reach(optimizer, TrajectorySampled)
    async with optimizer:
        await reach(optimizer, CallRetried)
        with quiz_process(port):
            await optimizer.result(PATIENCE)
    assert await findings_in(tmp_path / "killed.db", "run") == await findings(tmp_path / "local.db", HintAndAnswer())


async def test_examples_that_the_students_lm_rejects_are_set_aside(tmp_path: Path) -> None:
    def picky(ask: Ask) -> Any:
        if any(f"ball {n}?" in ask.last for n in (4, 5)):
            raise LMInvalidRequestError("not this one", status=400)
        return quiz_script(ask)

    with served(quiz_service(lm=ScriptedLM(picky), governor=impatient())) as address:
        settings: dict[str, Any] = {"student": RemoteStudent(address), "governor": impatient(), "max_concurrency": 1}
        config = small_config(tmp_path / "simba.db", bsize=8, max_steps=1, prompt_model=ScriptedLM(rules), **settings)
        async with await Optimizer.start(config) as optimizer:
            await optimizer.result(PATIENCE)
            events = await events_of(optimizer, ExampleSetAside)
    assert sorted(event.example for event in events) == [4, 5]


async def test_a_student_that_hangs_pauses_the_run_and_is_named(tmp_path: Path) -> None:
    over, cancelled = threading.Event(), threading.Event()

    def hang(request: dict[str, Any]) -> dict[str, Any]:
        over.wait(PATIENCE)
        return succeeded(request)

    def cancel(request: dict[str, Any]) -> dict[str, Any]:
        cancelled.set()
        return {"found": True}

    with OddStudent(hang) as odd:
        odd.answers["Cancel"] = cancel
        config = odd_config(tmp_path / "odd.db", odd, rollout_timeout=0.2)
        async with await Optimizer.start(config) as optimizer:
            with pytest.raises(RunPausedError, match=r"rollout_timeout=0\.2"):
                await optimizer.result(PATIENCE)
        assert await asyncio.to_thread(cancelled.wait, PATIENCE)
        over.set()


async def test_a_deadline_travels_with_each_run(tmp_path: Path) -> None:
    seconds: list[float] = []

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        seconds.append(request["timeoutSeconds"])
        return succeeded(request)

    await disturbed(tmp_path / "odd.db", answer, rollout_timeout=50.0)
    assert all(0 < each <= 50.0 for each in seconds)


@pytest.mark.parametrize(
    "usage",
    [
        {"calls": -5, "promptTokens": 10},
        {"calls": 1, "promptTokens": -10, "completionTokens": 1},
        {"calls": 1, "cost": 1e300},
        {"calls": 10**12},
        {"calls": "many"},
        {"cost": True},
    ],
    ids=str,
)
async def test_usage_that_can_not_be_true_counts_as_unknown(
    tmp_path: Path, usage: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with OddStudent(lambda request: succeeded(request, usage=usage)) as odd, caplog.at_level(logging.WARNING):
        result = await finish(odd_config(tmp_path / "odd.db", odd, max_steps=1))
    assert (result.usage.prompt_tokens, result.usage.cost) == (None, None)
    assert 0 < result.usage.calls < 1000
    assert sum("usage that can't be true" in record.getMessage() for record in caplog.records) == 1


async def test_a_cap_on_cost_is_not_kept_by_a_student_that_lies(tmp_path: Path) -> None:
    lie = {"calls": 1, "promptTokens": 1, "completionTokens": 1, "cost": -3.0}
    with OddStudent(lambda request: succeeded(request, usage=lie)) as odd:
        config = odd_config(tmp_path / "odd.db", odd, budget=Budget(max_cost=1.0))
        async with await Optimizer.start(config) as optimizer:
            with pytest.raises(RunPausedError, match="max_cost=1 can't be kept"):
                await optimizer.result(PATIENCE)


async def test_steps_of_predictors_that_were_not_described_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def answer(request: dict[str, Any]) -> dict[str, Any]:
        reply = succeeded(request)
        return {**reply, "trace": [{"predictor": "judge", "outputs": {"mood": "good"}}, *reply["trace"]]}

    with caplog.at_level(logging.WARNING):
        found = await disturbed(tmp_path / "odd.db", answer)
    assert found == await undisturbed(tmp_path / "even.db")
    assert sum("reports steps of ['judge']" in record.getMessage() for record in caplog.records) == 1


async def test_a_student_that_changes_during_the_run_is_reported_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        await disturbed(tmp_path / "odd.db", lambda request: succeeded(request, codeVersion="2"))
    assert sum("from version '1' to '2'" in record.getMessage() for record in caplog.records) == 1


async def test_an_example_that_the_student_refuses_is_set_aside_while_others_are_answered(tmp_path: Path) -> None:
    def picky(request: dict[str, Any]) -> Any:
        if request["inputs"]["question"].endswith("ball 5?"):
            return 422, {}, {"detail": "there is no ball 5"}
        return succeeded(request)

    with OddStudent(picky) as odd:
        async with await Optimizer.start(odd_config(tmp_path / "odd.db", odd)) as optimizer:
            event = await reach(optimizer, ExampleSetAside)
            await optimizer.result(PATIENCE)
    assert event.example == 5
    assert "there is no ball 5 (HTTP 422)" in event.reason
    assert "must answer with OUTCOME_PROGRAM_FAILURE" in event.reason


async def test_a_student_that_is_replaced_by_another_program_pauses_the_run(tmp_path: Path) -> None:
    refusal = 400, {}, {"code": "invalid_argument", "message": "there are no predictors ['answer']"}
    with OddStudent(lambda request: refusal) as odd:
        async with await Optimizer.start(odd_config(tmp_path / "odd.db", odd)) as optimizer:
            with pytest.raises(RunPausedError, match="there are no predictors"):
                await optimizer.result(PATIENCE)
    assert await errors_of(tmp_path / "odd.db") == set()
