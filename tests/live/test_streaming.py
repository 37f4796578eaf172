"""Streaming live programs with `dspy.streamify`."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.streaming import StreamListener, StreamResponse, streamify

from simba_actors.live import LiveProgram, VariableAware
from simba_actors.programs import ConfigurationSpace
from simba_actors.publishing.channel import Channel
from tests.support.openai_server import OpenAIServer
from tests.support.scripted_lm import Ask

ANSWER = "the quick brown fox jumps over the lazy dog and goes home"


def tell(ask: Ask) -> dict[str, Any]:
    return dict.fromkeys(ask.fields, ANSWER)


@pytest.fixture(scope="module")
def server() -> Generator[OpenAIServer]:
    with OpenAIServer(tell) as server:
        yield server


class Bot(VariableAware):
    def __init__(self) -> None:
        super().__init__()
        self.hint: Any = dspy.Predict("question -> hint")
        self.answer: Any = dspy.Predict("question, hint -> answer")

    async def aforward(self, question: str) -> Any:
        hint = (await self.hint.acall(question=question)).hint
        return await self.answer.acall(question=question, hint=hint)

    def forward(self, question: str) -> Any:
        return self.answer(question=question, hint=self.hint(question=question).hint)


def following(store: Path) -> Bot:
    bot = Bot()
    bot.follow(store)
    return bot


def live(store: Path) -> LiveProgram:
    return LiveProgram(Bot(), store=store)


async def publish_bot(store: Path) -> None:
    configuration = ConfigurationSpace.from_module(Bot()).extract(Bot()).with_instructions("answer", "Tell.")
    async with await Channel.open(store, "default") as channel:
        await channel.publish(configuration, expected=0, reason="?")


async def streamed(program: Any, server: OpenAIServer, *, is_async: bool) -> str:
    listeners = [StreamListener(signature_field_name="answer")]
    stream: Any = streamify(program, stream_listeners=listeners, is_async_program=is_async)
    with dspy.context(lm=server.lm()):
        return "".join([item.chunk async for item in stream(question="?") if isinstance(item, StreamResponse)])


@pytest.mark.parametrize("make", [live, following])
@pytest.mark.parametrize("is_async", [True, False])
@pytest.mark.parametrize("version", [0, 1])
async def test_every_version_is_streamed(
    version: int, is_async: bool, make: Any, server: OpenAIServer, tmp_path: Path
) -> None:
    program = make(tmp_path / "simba.db")
    if version:
        await publish_bot(tmp_path / "simba.db")
    assert ((await streamed(program, server, is_async=is_async)).rstrip(), program.version) == (ANSWER, version)
