"""A reply from DSPy's cache is used wherever it was stored, and counts as no call."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from typing import Any

import dspy
import pytest

from simba_actors.lm.access import endpoint_name
from simba_actors.lm.budget import COUNTED, Budget, BudgetTracker
from simba_actors.lm.governed_lm import governed
from simba_actors.lm.governor import Caller, Governor
from simba_actors.lm.limits import Limits
from simba_actors.lm.rollout_context import SETTING, RolloutContext
from simba_actors.lm.usage import Meter, calls, prompt_characters, reported_cost, tokens
from simba_actors.search.rollout import Usage
from tests.support.openai_server import OpenAIServer
from tests.support.quiz import legible_script
from tests.support.scripted_lm import Ask
from tests.support.waiting import PATIENCE


class Counted:
    """A governed LM, and what its calls are counted as: for a budget, and for a rollout."""

    def __init__(self, lm: Any, governor: Governor | None = None) -> None:
        self.tracker, self.meter = BudgetTracker(Budget(max_calls=100)), Meter()
        caller = Caller(
            before_call=self.tracker.before_call,
            after_call=self.tracker.after_call,
            before_blocking_call=self.tracker.before_blocking_call,
            on_answer=self._count,
        )
        self.lm = governed(lm, governor or Governor(), caller=caller)

    def _count(self, entry: Mapping[str, Any]) -> None:
        counts = calls(entry), entry[COUNTED]
        self.tracker.answered(*tokens(entry), reported_cost(entry), prompt_characters(entry), *counts)

    async def ask(self, question: str) -> None:
        with dspy.context(**{SETTING: RolloutContext(self.meter)}):
            await asyncio.wait_for(self.lm.acall(question), PATIENCE)

    @property
    def calls(self) -> tuple[int, int]:
        return self.tracker.calls, self.meter.total.calls


@pytest.mark.parametrize("engine", ["auto", "litellm"])
async def test_several_cached_completions_count_as_no_call(engine: str) -> None:
    with OpenAIServer(legible_script) as server:
        lm = server.lm(cache=True, n=3, temperature=1.0)
        await Counted(lm).ask("three?")
        sent = server.calls
        counted = Counted(server.lm(cache=True, n=3, temperature=1.0, engine=engine))
        await counted.ask("three?")
    assert server.calls == sent
    assert counted.calls == (0, 0)
    assert counted.tracker.spent == Usage()


async def test_replies_of_first_calls_which_go_by_the_sync_side_are_used_by_later_runs_of_the_process() -> None:
    with OpenAIServer(legible_script) as server:
        governor = Governor()
        for _ in range(2):
            await Counted(server.lm(cache=True), governor).ask("first?")
        assert server.calls == 1


def held_until(event: threading.Event) -> Callable[[Ask], Any]:
    def script(ask: Ask) -> Any:
        assert event.wait(PATIENCE)
        return legible_script(ask)

    return script


async def test_a_call_that_is_answered_from_the_cache_once_it_has_its_turn_counts_as_none_and_uses_nothing() -> None:
    both_asked = threading.Event()
    with OpenAIServer(held_until(both_asked)) as server:
        lm = server.lm(cache=True)
        governor = Governor(limits={endpoint_name(lm): Limits(max_concurrency=1)})
        first, second = Counted(lm, governor), Counted(lm, governor)
        answers = asyncio.gather(first.ask("the same?"), second.ask("the same?"))
        async with asyncio.timeout(PATIENCE):
            while not governor.endpoint(endpoint_name(lm)).waiting:  # noqa: ASYNC110 - waiting has no event
                await asyncio.sleep(0.001)
        both_asked.set()
        await answers
    assert server.calls == 1
    sent, cached = sorted((first, second), key=lambda each: each.calls, reverse=True)
    assert (sent.calls, cached.calls) == ((1, 1), (0, 0))
    assert cached.meter.total == Usage()
