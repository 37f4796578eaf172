"""Calls that are sent during an outage and fail after it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dspy
import pytest

from simba_actors import Optimizer
from simba_actors.events import Event, RunPaused
from simba_actors.store import Reader
from tests.support.quiz import quiz_script
from tests.support.runs import findings, finish, reach, small_config
from tests.support.scripted_lm import Ask, ScriptedLM
from tests.support.seeded_loop import run_seeded, use_one_thread


class Account:
    """An LM account without credit at first. Calls sent then are refused: the first at once, the others later."""

    def __init__(self) -> None:
        self.empty = True
        self._refused: set[Ask] = set()
        self.lm = ScriptedLM(self._reply, latency=self._latency)

    def _latency(self, ask: Ask) -> float:
        if not self.empty:
            return 0.1
        self._refused.add(ask)
        return 0.1 if len(self._refused) == 1 else 10.0

    def _reply(self, ask: Ask) -> dict[str, Any] | str:
        if ask in self._refused:
            self._refused.discard(ask)
            raise dspy.LMBillingError("the account is empty")
        return quiz_script(ask)


@pytest.mark.parametrize("seed", range(3))
def test_a_run_that_was_resumed_is_not_paused_by_an_earlier_call(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_one_thread(monkeypatch)

    async def main() -> tuple[list[Event], bool]:
        expected, account = small_config(tmp_path / "expected.db", run_id="run"), Account()
        config = small_config(tmp_path / "simba.db", run_id="run", lm=account.lm)
        await finish(expected)
        async with await Optimizer.start(config) as optimizer:
            await reach(optimizer, RunPaused)
            account.empty = False
            await optimizer.resume()
            await optimizer.result()
        async with await Reader.open(config.store) as reader:
            return await reader.events("run"), await findings(config, "run") == await findings(expected, "run")

    events, alike = run_seeded(seed, main())
    assert (sum(isinstance(event, RunPaused) for event in events), alike) == (1, True)
