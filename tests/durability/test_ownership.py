"""One living process owns a run, and only a run with the same config continues it."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import dspy
import pytest

from simba_actors import Optimizer
from simba_actors.errors import FingerprintMismatchError, LeaseLostError, RunOwnedError
from simba_actors.events import StepOpened, TrajectorySampled
from simba_actors.store.store import Store
from tests.support.children import start_child
from tests.support.hosts import run_script_in_fork
from tests.support.openai_server import OpenAIServer, lm_at
from tests.support.quiz import questions, quiz_script
from tests.support.runs import finish, reach, settle, small_config
from tests.support.scripted_lm import CallCounter, ScriptedLM
from tests.support.waiting import PATIENCE, block_until, kill


async def hold(address: str, store: Path) -> None:
    lm = lm_at(address)
    await finish(small_config(store, run_id="run", lm=lm, prompt_model=lm))


async def test_a_living_owners_run_is_refused_and_a_dead_owners_taken_over(tmp_path: Path) -> None:
    with OpenAIServer(quiz_script, latency=3600.0) as server:
        config = small_config(tmp_path / "simba.db", run_id="run", lm=server.lm(), prompt_model=server.lm())
        child = start_child(hold, server.address, config.store)
        block_until(server.called.is_set)
        with pytest.raises(RunOwnedError, match=f"open in process {child.pid} on {os.uname().nodename}") as refused:
            await Optimizer.start(config)
        assert (refused.value.pid, refused.value.host) == (child.pid, os.uname().nodename)
        kill(child)
        server.latency = 0.0
        await finish(config)


async def test_a_run_is_refused_to_a_second_optimizer_of_the_same_process(tmp_path: Path) -> None:
    async with await Optimizer.start(small_config(tmp_path / "simba.db")):
        with pytest.raises(RunOwnedError, match="stop the optimizer that has it, or give this run another run_id"):
            await Optimizer.start(small_config(tmp_path / "simba.db"))


def brief() -> dspy.Module:
    signature: Any = dspy.Signature
    return dspy.Predict(signature("question -> answer", "Be brief."))


def other_metric(example: Any, prediction: Any) -> float:
    return 0.5


class Ball:
    def __init__(self, size: int) -> None:
        self.size = size


def with_balls(size: int) -> dict[str, Any]:
    trainset = [dspy.Example(**row.toDict(), ball=Ball(size)).with_inputs("question", "ball") for row in questions(8)]
    return {"student": dspy.Predict("question, ball -> answer"), "trainset": trainset}


async def test_a_run_continues_whose_examples_hold_objects_without_a_repr(tmp_path: Path) -> None:
    for _ in range(2):
        async with await Optimizer.start(small_config(tmp_path / "simba.db", run_id="run", **with_balls(1))):
            pass


async def test_what_such_objects_hold_is_part_of_the_trainset(tmp_path: Path) -> None:
    async with await Optimizer.start(small_config(tmp_path / "simba.db", run_id="run", **with_balls(1))):
        pass
    with pytest.raises(FingerprintMismatchError) as refused:
        await Optimizer.start(small_config(tmp_path / "simba.db", run_id="run", **with_balls(2)))
    assert refused.value.differing == ("trainset",)


@pytest.mark.parametrize(
    ("changed", "differing"),
    [
        ({"trainset": questions(8, start=1)}, "trainset"),
        ({"student": dspy.ChainOfThought("question -> answer")}, "student"),
        ({"student": brief()}, "student"),
        ({"metric": other_metric}, "metric"),
        ({"seed": 4}, "seed"),
        ({"bsize": 4}, "bsize"),
        ({"num_candidates": 3}, "num_candidates"),
        ({"max_steps": 3}, "max_steps"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_continuing_with_another_config_says_what_differs(
    changed: dict[str, Any], differing: str, tmp_path: Path
) -> None:
    async with await Optimizer.start(small_config(tmp_path / "simba.db", run_id="run")):
        pass
    with pytest.raises(FingerprintMismatchError, match="Give the same ones to continue it, or another") as refused:
        await Optimizer.start(small_config(tmp_path / "simba.db", run_id="run", **changed))
    assert refused.value.differing == (differing,)
    assert f"other values of {differing} (" in str(refused.value)


async def test_a_start_that_is_cancelled_leaves_the_run_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, claimed = Store.claim, asyncio.Event()

    async def held(store: Store, *args: Any, **options: Any) -> None:
        await claim(store, *args, **options)
        claimed.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as patched:
        patched.setattr(Store, "claim", held)
        starting = asyncio.ensure_future(Optimizer.start(small_config(tmp_path / "simba.db")))
        await asyncio.wait_for(claimed.wait(), PATIENCE)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
    with closing(sqlite3.connect(tmp_path / "simba.db")) as db:
        assert db.execute("SELECT owner FROM runs").fetchall() == [(None,)]


def take_over(store: Path) -> None:
    """Take the run over as another host does after the lease has expired."""
    with closing(sqlite3.connect(store)) as db, db:
        elsewhere = '{"pid":1,"host":"elsewhere","namespace":"","started":""}'
        db.execute("UPDATE runs SET owner = ?, owner_token = 'another', lease_until = 1e12", [elsewhere])


def status_of(store: Path) -> Any:
    with closing(sqlite3.connect(store)) as db:
        return db.execute("SELECT status, owner_token FROM runs").fetchone()


async def test_a_run_that_another_process_took_over_ends_here_and_calls_no_more(tmp_path: Path) -> None:
    calls = CallCounter()
    lm = ScriptedLM(quiz_script, latency=0.01, callbacks=[calls])
    config = small_config(tmp_path / "simba.db", run_id="run", lm=lm, prompt_model=lm)
    async with Optimizer.start(config) as optimizer:
        await reach(optimizer, TrajectorySampled)
        take_over(tmp_path / "simba.db")
        with pytest.raises(LeaseLostError, match="was taken over by another process"):
            await optimizer.result(PATIENCE)
        made = calls.made
        await settle(optimizer)
    assert calls.made == made
    assert status_of(tmp_path / "simba.db") == ("running", "another")


class CallsBlocking(dspy.Module):
    """Calls an LM synchronously, which blocks the event loop."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = dspy.Predict("question -> answer")

    async def aforward(self, question: str) -> Any:
        return self.answer(question=question)


@pytest.mark.parametrize("student", [dspy.Predict("question -> answer"), CallsBlocking()], ids=["awaits", "blocks"])
async def test_a_process_that_slept_longer_than_its_lease_asks_the_store_before_it_calls(
    student: dspy.Module, tmp_path: Path
) -> None:
    calls = CallCounter()
    lm = ScriptedLM(quiz_script, callbacks=[calls])
    config = small_config(tmp_path / "simba.db", run_id="run", student=student, lm=lm, prompt_model=lm)
    async with Optimizer.start(config) as optimizer:
        await optimizer.pause()
        await settle(optimizer)
        take_over(tmp_path / "simba.db")
        optimizer._run.lease._until = 0.0
        made = calls.made
        optimizer._run.gate.pausing.resume()
        with pytest.raises(LeaseLostError):
            await optimizer.result(PATIENCE)
    assert calls.made == made


def leave_open(store: Path) -> None:
    """Close an event loop while a run is open in it."""
    loop = asyncio.new_event_loop()
    slow = ScriptedLM(quiz_script, latency=3600.0)
    left = loop.run_until_complete(Optimizer.start(small_config(store, run_id="run", lm=slow)))
    loop.run_until_complete(reach(left, StepOpened))
    loop.close()


def leave_open_and_finish(store: Path) -> None:
    leave_open(store)
    asyncio.run(finish(small_config(store, run_id="run")))


@pytest.mark.parametrize("work", [leave_open, leave_open_and_finish])
def test_a_run_in_a_closed_loop_is_free_and_keeps_no_process_alive(
    work: Callable[[Path], None], tmp_path: Path
) -> None:
    path = str(tmp_path / "simba.db")
    run_script_in_fork(f"import pathlib, {__name__} as here; here.{work.__name__}(pathlib.Path({path!r}))")


class Tidy(dspy.Module):
    """A student that takes time to clean up."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = dspy.Predict("question -> answer")

    async def aforward(self, question: str) -> Any:
        try:
            return await self.answer.acall(question=question)
        finally:
            await asyncio.sleep(0.01)


async def test_a_block_that_is_cancelled_leaves_a_run_that_is_free(tmp_path: Path) -> None:
    slow = ScriptedLM(quiz_script, latency=3600.0)
    config = small_config(tmp_path / "simba.db", run_id="run", lm=slow, student=Tidy())
    for _ in range(4):
        with anyio.CancelScope() as scope:
            async with Optimizer.start(config) as optimizer:
                await reach(optimizer, StepOpened)
                scope.cancel()
                await asyncio.sleep(3600)
