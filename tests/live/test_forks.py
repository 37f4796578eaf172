"""A live program that was used before `os.fork` works in the parent and in each child."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.hosts import run_script, run_script_in_fork
from tests.support.live import publish

PRELUDE = """
import asyncio, os, signal, sys, threading
import dspy
from pathlib import Path
from simba_actors import Channel, LiveProgram
from simba_actors.programs import Configuration
from tests.support.live import answer, publish, sayer

class Blocking(dspy.Module):
    def __init__(self):
        super().__init__()
        self.ask = sayer()
    def forward(self, question):
        return self.ask(question=question)

store = Path(sys.argv[1])

def in_child(work):
    child = os.fork()
    if child:
        return child
    signal.alarm(60)  # Kills a child that hangs, which its parent sees.
    try:
        os._exit(0 if work() else 1)
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(2)

def ended_well(children):
    return [os.waitpid(child, 0)[1] for child in children] == [0] * len(children)
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "simba.db"
    asyncio.run(publish(path, "one"))
    return path


def test_an_async_call_in_a_child_is_answered(store: Path) -> None:
    script = """
live = LiveProgram(sayer(), store=store)
asyncio.run(answer(live))
children = [in_child(lambda: asyncio.run(answer(live)) == "one") for _ in range(3)]
sys.exit(0 if ended_well(children) and asyncio.run(answer(live)) == "one" else 1)
"""
    run_script_in_fork(PRELUDE + script, store)


def test_a_sync_student_is_run_in_a_thread_of_the_child(store: Path) -> None:
    script = """
async def publish_to_student():
    async with await Channel.open(store, "blocking") as channel:
        await channel.publish(Configuration.of({"ask": ("Say one.", [])}), expected=0, reason="?")

asyncio.run(publish_to_student())
live = LiveProgram(Blocking(), store=store, channel="blocking")
asyncio.run(answer(live))
children = [in_child(lambda: asyncio.run(answer(live)) == "one") for _ in range(3)]
sys.exit(0 if ended_well(children) and asyncio.run(answer(live)) == "one" else 1)
"""
    run_script_in_fork(PRELUDE + script, store)


def test_a_child_sees_what_is_published_after_the_fork(store: Path) -> None:
    script = """
live = LiveProgram(sayer(), store=store)
live(question="?")

def sees_two():
    while live(question="?").answer != "two":
        pass
    return True

child = in_child(sees_two)
asyncio.run(publish(store, "two"))
sys.exit(0 if ended_well([child]) and live(question="?").answer == "two" else 1)
"""
    run_script_in_fork(PRELUDE + script, store)


def test_scores_that_a_child_reports_are_stored(store: Path) -> None:
    script = """
live = LiveProgram(sayer(), store=store, metric=lambda example, prediction: 1.0, keep_examples=10)
live(question="in the parent")
live.close()

def call_and_close():
    live(question="in the child")
    live.close()
    return True

async def questions():
    async with await Channel.open(store, "default") as channel:
        return {example.inputs["question"] for example in await channel.examples()}

well = ended_well([in_child(call_and_close)])
sys.exit(0 if well and asyncio.run(questions()) == {"in the parent", "in the child"} else 1)
"""
    run_script_in_fork(PRELUDE + script, store)


def test_a_fork_while_another_thread_calls_leaves_no_lock_behind(store: Path) -> None:
    script = """
class Instructions(dspy.Module):
    # Calls no LM: whether the locks of DSPy survive a fork is another matter.
    def __init__(self):
        super().__init__()
        self.ask = sayer()
    def forward(self):
        return self.ask.signature.instructions

async def publish_instructions():
    async with await Channel.open(store, "own") as channel:
        await channel.publish(Configuration.of({"ask": ("Say one.", [])}), expected=0, reason="?")

asyncio.run(publish_instructions())
live = LiveProgram(Instructions(), store=store, channel="own")
over = threading.Event()

def call_on_and_on():
    while not over.is_set():
        live()
        live._router._follower._next_check = 0.0  # Each call looks at the file.

threads = [threading.Thread(target=call_on_and_on) for _ in range(2)]
for thread in threads:
    thread.start()
children = [in_child(lambda: live() == "Say one.") for _ in range(20)]
well = ended_well(children)
over.set()
sys.exit(0 if well else 1)
"""
    run_script_in_fork(PRELUDE + script, store)


def test_the_first_call_imports_no_module_of_dspys_clients_whose_lock_a_fork_could_inherit(store: Path) -> None:
    script = """
live = LiveProgram(sayer(), store=store)
before = set(sys.modules)
live(question="?")
sys.exit(", ".join(name for name in set(sys.modules) - before if name.startswith("dspy.clients")) or 0)
"""
    run_script(PRELUDE + script, store)
