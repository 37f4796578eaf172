"""Runs and live programs under whatever event loop the host has."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.hosts import run_script_in_fork

PRELUDE = """
import asyncio, sys, threading, warnings
from pathlib import Path
import dspy
from simba_actors import LiveProgram, Optimizer, SIMBA
from simba_actors.errors import RunningLoopError
from tests.support.live import answer, publish, sayer
from tests.support.runs import finish, small_config

store = Path(sys.argv[1])
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "simba.db"


def test_uvloop(store: Path) -> None:
    script = """
import uvloop

async def main():
    assert type(asyncio.get_running_loop()).__module__.startswith("uvloop")
    result = await finish(small_config(store))
    await publish(store, "one")
    return result.score, await answer(LiveProgram(sayer(), store=store))

print(uvloop.run(main()))
"""
    assert run_script_in_fork(PRELUDE + script, store).strip().endswith("'one')")


def test_a_run_and_live_calls_within_a_loop_that_is_nested(store: Path) -> None:
    script = """
import nest_asyncio
nest_asyncio.apply()

async def main():
    await publish(store, "one")
    live = LiveProgram(sayer(), store=store)
    nested = asyncio.run(finish(small_config(store)))
    return nested.score, asyncio.run(answer(live)), await answer(live), live(question="?").answer

print(asyncio.run(main()))
"""
    assert run_script_in_fork(PRELUDE + script, store).strip().endswith("'one', 'one', 'one')")


def test_asyncio_run_several_times_continues_one_run(store: Path) -> None:
    script = """
async def begin():
    async with await Optimizer.start(small_config(store)) as optimizer:
        async for event in optimizer.events():
            if type(event).__name__ == "StepClosed":
                return optimizer.run_id

live = LiveProgram(sayer(), store=store)
first = asyncio.run(begin())
asyncio.run(answer(live))
result = asyncio.run(finish(small_config(store)))
asyncio.run(publish(store, "one"))
print(first == result.run_id, asyncio.run(answer(live)), live(question="?").answer)
"""
    assert run_script_in_fork(PRELUDE + script, store).strip() == "True one one"


def test_a_run_on_a_loop_in_a_thread_beside_live_calls_of_the_main_thread(store: Path) -> None:
    script = """
results = []
thread = threading.Thread(target=lambda: results.append(asyncio.run(finish(small_config(store)))))
live = LiveProgram(sayer(), store=store)
thread.start()
answers = set()
while thread.is_alive():
    answers.add(live(question="?").answer)
thread.join()
asyncio.run(publish(store, "one"))
print(len(results), answers, live(question="?").answer)
"""
    assert run_script_in_fork(PRELUDE + script, store).strip() == "1 {'nothing'} one"


def test_compile_in_a_running_loop_names_what_to_await(store: Path) -> None:
    script = """
async def main():
    config = small_config(store)
    try:
        SIMBA(metric=config.metric, bsize=4, max_steps=1).compile(config.student, trainset=config.trainset)
    except RunningLoopError as error:
        print("acompile" in str(error))

asyncio.run(main())
"""
    assert run_script_in_fork(PRELUDE + script, store).strip() == "True"
