"""Copies of live programs follow nothing; what is saved is what is served."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cloudpickle
import dspy
import pytest

from simba_actors.live import LiveProgram, VariableAware
from simba_actors.programs import Configuration
from simba_actors.publishing.channel import Channel
from tests.support.live import answer, publish, said
from tests.support.scripted_lm import ScriptedLM


class Bot(VariableAware):
    def __init__(self) -> None:
        super().__init__()
        self.answer: Any = dspy.Predict("question -> answer")

    async def aforward(self, question: str) -> Any:
        return await self.answer.acall(question=question)

    def forward(self, question: str) -> Any:
        return self.answer(question=question)


@pytest.fixture
async def store(tmp_path: Path) -> Path:
    store = tmp_path / "simba.db"
    await publish(store, "one")
    async with await Channel.open(store, "bot") as channel:
        await channel.publish(Configuration.of({"answer": ("Say one.", [])}), expected=0, reason="?")
    return store


async def test_a_pickle_is_a_copy_that_follows_nothing(store: Path) -> None:
    live = LiveProgram(dspy.Predict("question -> answer"), store=store)
    with dspy.context(lm=ScriptedLM(said)):
        assert await answer(live) == "one"
        copied = cloudpickle.loads(cloudpickle.dumps(live))
        assert (await answer(copied), copied(question="?").answer, copied.version) == ("nothing", "nothing", 0)


async def test_a_pickle_of_a_module_of_the_users_own_follows_nothing(store: Path) -> None:
    bot = Bot()
    bot.follow(store, "bot")
    with dspy.context(lm=ScriptedLM(said)):
        copied = cloudpickle.loads(cloudpickle.dumps(bot))
        assert (await answer(bot), await answer(copied)) == ("one", "nothing")


async def test_the_state_that_is_saved_is_that_of_the_version_that_is_served(store: Path) -> None:
    live = LiveProgram(dspy.Predict("question -> answer"), store=store)
    live.save(str(store.with_name("live.json")))
    state = json.loads(store.with_name("live.json").read_text())
    assert state["student"]["signature"]["instructions"] == "Say one."
    assert live.student.dump_state()["signature"]["instructions"] != "Say one."


async def test_a_state_that_was_saved_can_be_loaded(store: Path) -> None:
    LiveProgram(dspy.Predict("question -> answer"), store=store).save(str(store.with_name("live.json")))
    student: Any = dspy.Predict("question -> answer")
    LiveProgram(student, store=store.with_name("none.db")).load(str(store.with_name("live.json")))
    assert student.signature.instructions == "Say one."


async def test_the_state_of_a_module_of_the_users_own_is_that_of_the_version_that_is_served(store: Path) -> None:
    bot = Bot()
    bot.follow(store, "bot")
    bot.save(str(store.with_name("bot.json")))
    assert json.loads(store.with_name("bot.json").read_text())["answer"]["signature"]["instructions"] == "Say one."


@pytest.mark.parametrize("own", [False, True])
async def test_a_whole_program_that_was_saved_runs_what_was_served(own: bool, store: Path) -> None:
    program: Any = Bot() if own else LiveProgram(dspy.Predict("question -> answer"), store=store)
    if own:
        program.follow(store, "bot")
    program.save(str(store.with_name("saved")), save_program=True)
    await publish(store, "two")
    loaded = dspy.load(str(store.with_name("saved")), allow_pickle=True)
    with dspy.context(lm=ScriptedLM(said)):
        assert (await answer(loaded), loaded(question="?").answer, loaded.version) == ("one", "one", 0)


async def test_the_student_keeps_its_own_state_when_the_live_program_is_saved(store: Path) -> None:
    student: Any = dspy.Predict("question -> answer")
    live = LiveProgram(student, store=store)
    live.save(str(store.with_name("live.json")))
    assert (live.student is student, student.signature.instructions.startswith("Given the fields")) == (True, True)
