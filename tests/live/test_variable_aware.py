"""Modules of the user's own that follow a channel themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from simba_actors.live import VariableAware
from simba_actors.programs import ConfigurationSpace, Float
from simba_actors.publishing.channel import Channel
from tests.support.live import answer, publish, said_by, sayer
from tests.support.scripted_lm import ScriptedLM


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "simba.db"


class Bot(VariableAware):
    """A user's own module."""

    def __init__(self) -> None:
        super().__init__()
        self.answer: Any = sayer()

    async def aforward(self, question: str) -> Any:
        return await self.answer.acall(question=question)

    def forward(self, question: str) -> Any:
        return self.answer(question=question)


class SyncBot(VariableAware):
    def __init__(self) -> None:
        super().__init__()
        self.answer: Any = sayer()

    def forward(self, question: str) -> Any:
        return self.answer(question=question)


async def test_a_module_of_the_users_own_follows_too(store: Path) -> None:
    bot = Bot()
    before = await answer(bot)
    bot.follow(store)
    await publish(store, "one", predictor="answer")
    assert (before, await answer(bot), bot(question="?").answer) == ("nothing", "one", "one")
    assert said_by(bot.answer) == "nothing"


async def test_a_module_of_the_users_own_without_an_async_side_has_one_once_it_follows(store: Path) -> None:
    bot = SyncBot()
    bot.follow(store)
    before = await answer(bot)
    await publish(store, "one", predictor="answer")
    assert (before, await answer(bot)) == ("nothing", "one")


async def test_a_module_of_the_users_own_takes_lm_settings_where_its_space_has_them(store: Path) -> None:
    bot = Bot()
    bot.answer.lm = ScriptedLM(lambda ask: {"answer": str(ask.temperature)})
    space = ConfigurationSpace.from_module(bot, settings={"answer.temperature": Float(0.0, 1.0)})
    bot.follow(store, space=space)
    async with await Channel.open(store, "default") as channel:
        await channel.publish(space.extract(bot).with_setting("answer.temperature", 0.7), expected=0, reason="try it")
    assert await answer(bot) == "0.7"


@pytest.mark.parametrize("published", [0, 1])
async def test_calls_of_a_module_of_the_users_own_are_kept_with_their_scores(published: int, store: Path) -> None:
    bot = Bot()
    bot.follow(store, metric=lambda example, prediction: 0.5, keep_examples=10)
    await publish(store, "other", channel="other")
    await publish(store, *["one"][:published], predictor="answer")
    said = await answer(bot)
    bot.close()
    async with await Channel.open(store, "default") as channel:
        (example,) = await channel.examples()
    assert (example.outputs, example.score, example.version) == ({"answer": said}, 0.5, published)
    assert example.trace == [["answer", {"question": "?"}, {"answer": said}]]


async def test_a_copy_of_a_module_of_the_users_own_follows_no_channel_and_can_be_changed(store: Path) -> None:
    bot = Bot()
    bot.follow(store)
    await publish(store, "one", predictor="answer")
    copied: Any = bot.deepcopy()
    copied.answer.signature = copied.answer.signature.with_instructions("Say changed.")
    assert (await answer(copied), copied(question="?").answer, await answer(bot)) == ("changed", "changed", "one")
