"""All optimizers of an event loop share what they learn about an endpoint's limit."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

from simba_actors import Governor, Limits
from simba_actors.hosting.assembly import assemble
from simba_actors.lm.governor import shared_governor
from tests.support.quiz import quiz_script
from tests.support.runs import finish, small_config
from tests.support.scripted_lm import Ask, ScriptedLM

MOST = 3


class InFlight:
    """A latency for scripted LMs that counts the calls in flight."""

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()
        self.now = 0

    def __call__(self, ask: Ask) -> float:
        self.now += 1
        self.counts[self.now] += 1
        return 0.001

    def script(self, ask: Ask) -> Any:
        self.now -= 1
        return quiz_script(ask)


async def test_optimizers_that_share_a_governor_share_a_limit(tmp_path: Path) -> None:
    flight = InFlight()
    governor = Governor(limits={"scripted/lm": Limits(max_concurrency=MOST)})
    lm = ScriptedLM(flight.script, latency=flight)
    runs = [
        small_config(tmp_path / f"{n}.db", lm=lm, prompt_model=lm, governor=governor, max_concurrency=8)
        for n in range(2)
    ]
    await asyncio.gather(*map(finish, runs))
    assert max(flight.counts) == MOST


async def test_optimizers_of_one_loop_share_a_governor_unless_they_are_given_one(tmp_path: Path) -> None:
    setups = [
        assemble(small_config(tmp_path / f"{n}.db"), lambda _: None, lambda _: None, lambda _: None) for n in range(2)
    ]
    assert [setup.governor for setup in setups] == [shared_governor()] * 2
