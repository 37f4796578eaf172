"""A run that is killed stops where it would have, with the adaptive search and its stopper."""

from __future__ import annotations

import random
from pathlib import Path

from simba_actors import EveryBucketSolved, NoImprovement, OptimizerConfig, TargetReached
from tests.support.children import start_child
from tests.support.openai_server import OpenAIServer, lm_at
from tests.support.quiz import quiz_script
from tests.support.runs import findings, finish
from tests.support.waiting import block_until, kill
from tests.team.test_adaptive_runs import adaptive_config

KILLS = 6
MOST_CALLS_A_LIFE = 25


def config_for(address: str, store: Path) -> OptimizerConfig:
    return adaptive_config(
        store,
        run_id="run",
        max_steps=8,
        lm=lm_at(address),
        prompt_model=lm_at(address),
        sampling_lms={"cool": lm_at(address, temperature=0.4)},
        stop_when=NoImprovement(patience=2) | EveryBucketSolved() & TargetReached(0.5),
    )


async def live(address: str, store: Path) -> None:
    await finish(config_for(address, store))


async def test_a_killed_run_stops_at_the_same_step_for_the_same_reason(tmp_path: Path) -> None:
    draws = random.Random(7)
    with OpenAIServer(quiz_script, latency=0.01) as server:
        whole = config_for(server.address, tmp_path / "whole.db")
        expected = await finish(whole)
        for _ in range(KILLS):
            child = start_child(live, server.address, tmp_path / "killed.db")
            calls = server.calls + draws.randrange(1, MOST_CALLS_A_LIFE)
            block_until(lambda child=child, calls=calls: server.calls >= calls or child.exitcode is not None)
            kill(child)
        killed = config_for(server.address, tmp_path / "killed.db")
        result = await finish(killed)
        assert await findings(killed, "run") == await findings(whole, "run")
    assert "no improvement beyond noise for 2 steps" in expected.reason
    assert result.reason == expected.reason
