"""The first calls to a provider are made in threads, since what they import would block the event loop for seconds."""

from __future__ import annotations

import threading
from typing import Any

import dspy
from dspy.utils.callback import BaseCallback

from simba_actors.lm.governed_lm import governed
from simba_actors.lm.governor import Governor
from tests.support.openai_server import OpenAIServer
from tests.support.quiz import legible_script
from tests.support.scripted_lm import ScriptedLM


class Places(BaseCallback):
    """Whether each call was made on the event loop."""

    def __init__(self) -> None:
        self.loop = threading.get_ident()
        self.on_the_loop: list[bool] = []

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        self.on_the_loop.append(threading.get_ident() == self.loop)


async def places_of_calls(lm: Any, count: int) -> list[bool]:
    places = Places()
    with dspy.context(lm=governed(lm, Governor()), callbacks=[places]):
        for _ in range(count):
            await dspy.Predict("question -> answer").acall(question="What is 1 + 1?")
    return places.on_the_loop


async def test_calls_to_a_provider_are_made_in_a_thread_until_one_is_answered() -> None:
    with OpenAIServer(legible_script) as server:
        assert await places_of_calls(server.lm(), 3) == [False, True, True]


async def test_an_engine_of_ones_own_is_called_on_the_loop_at_once() -> None:
    assert await places_of_calls(ScriptedLM(legible_script), 1) == [True]


async def test_a_reply_that_the_async_side_has_cached_is_used_before_one_is_answered() -> None:
    with OpenAIServer(legible_script) as server:
        for _ in range(2):
            copy = governed(server.lm(cache=True), Governor())
            await copy.acall("hello")  # In a thread the first time.
            await copy.acall("hello again")
        assert server.calls == 2
