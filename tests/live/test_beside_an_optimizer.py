"""Live calls never wait for an optimizer, whatever the state of it and its event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import dspy
import pytest

from simba_actors import Governor, Limits, Optimizer
from simba_actors.live import LiveProgram
from simba_actors.lm.governed_lm import governed
from tests.support.live import said
from tests.support.quiz import exact, quiz_script
from tests.support.runs import small_config
from tests.support.scripted_lm import ScriptedLM
from tests.support.waiting import PATIENCE

ROWS = [dspy.Example(question=f"{n}?", answer="nothing").with_inputs("question") for n in range(8)]


def live_program(lm: Any, store: Path) -> LiveProgram:
    student: Any = dspy.Predict("question -> answer")
    student.lm = lm
    return LiveProgram(student, store=store)


async def in_thread(call: Any) -> Any:
    """Return what `call()` returns, run in a thread, which must not wait for this event loop or any other."""
    async with asyncio.timeout(PATIENCE):
        return await asyncio.to_thread(call)


async def test_evaluate_runs_a_live_program_after_the_optimizer_has_ended(tmp_path: Path) -> None:
    config = small_config(tmp_path / "simba.db")
    async with await Optimizer.start(config) as optimizer:
        await optimizer.result(PATIENCE)
    live = live_program(ScriptedLM(said), tmp_path / "simba.db")
    evaluate: Any = dspy.Evaluate(devset=ROWS, metric=exact, num_threads=4)
    assert (await in_thread(lambda: evaluate(live))).score == 100.0


def test_evaluate_runs_a_live_program_after_the_optimizers_loop_was_closed(tmp_path: Path) -> None:
    async def optimize() -> None:
        async with await Optimizer.start(small_config(tmp_path / "simba.db")) as optimizer:
            await optimizer.result(PATIENCE)

    asyncio.run(optimize())
    live = live_program(ScriptedLM(said), tmp_path / "simba.db")
    evaluate: Any = dspy.Evaluate(devset=ROWS, metric=exact, num_threads=4)
    assert evaluate(live).score == 100.0


WAYS: dict[str, Callable[[LiveProgram], Any]] = {
    "Evaluate": lambda live: cast("Any", dspy.Evaluate(devset=ROWS, metric=exact, num_threads=4))(live).results,
    "Parallel": lambda live: cast("Any", dspy.Parallel(num_threads=4, disable_progress_bar=True))(
        [(live, row) for row in ROWS]
    ),
    "batch": lambda live: live.batch(ROWS, num_threads=4, disable_progress_bar=True),
}


@pytest.mark.parametrize("way", WAYS)
def test_calls_that_block_the_loop_of_an_optimizer_that_has_ended_return(way: str, tmp_path: Path) -> None:
    lm, answers = ScriptedLM(said), list[Any]()

    async def main() -> None:
        async with Optimizer.start(small_config(tmp_path / "simba.db", lm=lm)) as optimizer:
            await optimizer.result(PATIENCE)
        answers.extend(WAYS[way](live_program(lm, tmp_path / "simba.db")))

    service = threading.Thread(target=asyncio.run, args=(main(),), daemon=True)
    service.start()
    service.join(PATIENCE)
    assert len(answers) == len(ROWS)


@contextmanager
def hung_optimizer(lm: Any) -> Generator[threading.Event]:
    """Keep an optimizer's calls to the endpoint of `lm` in flight, on an event loop that can be blocked."""
    block, over, busy = threading.Event(), threading.Event(), threading.Event()

    async def never(*_: Any, **__: Any) -> Any:
        busy.set()
        await asyncio.Event().wait()

    async def main() -> None:
        copied: Any = governed(lm, Governor(limits={"scripted/lm": Limits(max_concurrency=1)}))
        copied.aforward = never
        calls = [asyncio.ensure_future(copied.acall(f"call {n}")) for n in range(8)]
        while not over.is_set():
            if block.is_set():
                over.wait(PATIENCE)  # Blocks the loop, on purpose.
            await asyncio.sleep(0.01)
        for call in calls:
            call.cancel()

    loop = threading.Thread(target=asyncio.run, args=(main(),))
    loop.start()
    try:
        yield block
    finally:
        over.set()
        loop.join(PATIENCE)


@pytest.mark.parametrize("blocked", [False, True], ids=["eight hung calls", "blocked loop"])
async def test_calls_in_threads_do_not_wait_for_an_optimizer_that_hangs(blocked: bool, tmp_path: Path) -> None:
    lm = ScriptedLM(said)
    live = live_program(lm, tmp_path / "simba.db")
    with hung_optimizer(lm) as block:
        if blocked:
            block.set()
        assert (await in_thread(lambda: live(question="?"))).answer == "nothing"
        parallel: Any = dspy.Parallel(num_threads=4, disable_progress_bar=True)
        pairs = [(live, row) for row in ROWS]
        assert len(await in_thread(lambda: parallel(pairs))) == len(ROWS)
        assert len(await in_thread(lambda: live.batch(ROWS, num_threads=4, disable_progress_bar=True))) == len(ROWS)
        async with asyncio.timeout(PATIENCE):
            assert (await live.acall(question="?")).answer == "nothing"


async def test_a_call_does_not_wait_for_what_an_endpoint_told_the_optimizer_to_wait(tmp_path: Path) -> None:
    lm = ScriptedLM(quiz_script)
    governor = Governor(limits={"scripted/lm": Limits(max_concurrency=1)})
    governed(lm, governor)
    endpoint = governor.endpoint("scripted/lm")
    endpoint.in_flight = 1
    endpoint.refused(24 * 3600.0)
    async with asyncio.timeout(PATIENCE):
        assert (await live_program(lm, tmp_path / "simba.db").acall(question="?")).answer
