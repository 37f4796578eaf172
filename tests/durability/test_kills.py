"""A run whose process is killed again and again, at any moment, ends with the same result."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from simba_actors import OptimizerConfig
from simba_actors.search.rollout import Rollout
from simba_actors.team.sampler import Sampler
from simba_actors.team.setting_aside import Heard
from tests.support.children import start_child
from tests.support.openai_server import OpenAIServer, lm_at
from tests.support.quiz import quiz_script
from tests.support.runs import findings, finish, small_config
from tests.support.scripted_lm import Ask
from tests.support.waiting import PATIENCE, block_until, kill

SEEDS = (1, 2, 3, 4)
KILLS = 13
MOST_CALLS_A_LIFE = 8
LATENCY = 0.03


@dataclass
class Toll:
    """What kills cost a run. `again` are rollouts that ran although their result was stored."""

    kills: int
    again: set[str]
    in_flight: int


def parsable(ask: Ask) -> dict[str, Any]:
    """Reply as `quiz_script` does, but always with something that can be parsed: a rollout is one call."""
    reply = quiz_script(ask)
    return reply if isinstance(reply, dict) else dict.fromkeys(ask.fields, "unknown")


def config_for(address: str, store: Path, seed: int) -> OptimizerConfig:
    lms = {"lm": lm_at(address), "prompt_model": lm_at(address), "teacher_lm": lm_at(address, temperature=0.4)}
    return small_config(store, run_id="killed", seed=seed, max_steps=3, policy="dspy", **lms)


async def one_life(address: str, store: Path, seed: int, begun: Path) -> None:
    """Continue the run in a child, and note each rollout that it begins."""
    run = Sampler._run

    async def noted(self: Sampler, rollout: Rollout, before: Heard) -> None:
        key = rollout.key
        with begun.open("a") as notes:
            notes.write(f"{key.step} {key.phase} {key.position}\n")
        await run(self, rollout, before)

    Sampler._run = noted
    await finish(config_for(address, store, seed))


def live_on(child: BaseProcess, server: OpenAIServer, draws: random.Random) -> None:
    """Return at a random moment: during the child's start, in a call, or between two calls."""
    calls = server.calls + draws.randrange(MOST_CALLS_A_LIFE)
    block_until(lambda: server.calls >= calls or child.exitcode is not None)
    child.join(draws.uniform(0.0, 2 * LATENCY))


def kill_until_it_ends(server: OpenAIServer, store: Path, seed: int) -> Toll:
    draws = random.Random(seed)
    begun = store.with_suffix(".begun")
    toll = Toll(0, set(), 0)
    while toll.kills <= KILLS:
        begun.write_text("")
        stored = rollouts_with_result(store)
        child = start_child(one_life, server.address, store, seed, begun)
        if toll.kills < KILLS:
            live_on(child, server, draws)
        else:
            child.join(PATIENCE)
        killed = child.exitcode is None
        kill(child)
        keys = set(begun.read_text().splitlines())
        toll.again |= keys & stored
        toll.in_flight += len(keys - rollouts_with_result(store))
        if not killed:
            assert child.exitcode == 0
            return toll
        toll.kills += 1
    raise AssertionError(f"the run has not ended {PATIENCE:g} s after its last kill")


def rollouts_with_result(store: Path) -> set[str]:
    done = rows(store, "SELECT step, phase, position FROM rollouts WHERE outcome IS NOT NULL")
    return {f"{step} {phase} {position}" for step, phase, position in done}


def rows(store: Path, sql: str) -> list[Any]:
    if not store.exists():
        return []
    with closing(sqlite3.connect(store)) as db:
        made = db.execute("PRAGMA user_version").fetchone()[0]
        return db.execute(sql).fetchall() if made else []


def rule_calls(server: OpenAIServer) -> int:
    return sum("module_advice" in ask.fields for ask in server.asks)


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_run_killed_at_random_moments_ends_as_if_it_had_not_been(seed: int, tmp_path: Path) -> None:
    with OpenAIServer(parsable, latency=LATENCY) as server:
        whole = config_for(server.address, tmp_path / "whole.db", seed)
        await finish(whole)
        expected = await findings(whole, "killed")
    with OpenAIServer(parsable, latency=LATENCY) as killed_server:
        store = tmp_path / "killed.db"
        toll = kill_until_it_ends(killed_server, store, seed)

    in_flight = toll.in_flight + rule_calls(killed_server) - rows(store, "SELECT SUM(calls) FROM proposals")[0][0]
    twice = len(killed_server.asks) - len(server.asks)
    print(f"seed {seed}: {toll.kills} kills, {twice} calls made twice, {in_flight} in flight at the kills")
    strategies = {program[3] for program in expected["programs"]}
    assert await findings(config_for(server.address, store, seed), "killed") == expected
    assert strategies == {"student", "append_a_demo", "append_a_rule"}
    assert toll.kills >= KILLS
    assert not toll.again
    assert twice <= in_flight
