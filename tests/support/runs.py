"""Small runs, and everything of them that must not depend on what befell them on the way."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, TypeVar

import dspy

from simba_actors import Optimizer, OptimizerConfig, OptimizerResult
from simba_actors.events import Event
from simba_actors.store import Reader
from tests.support.quiz import exact, questions, quiz_script
from tests.support.scripted_lm import Ask, ScriptedLM

E = TypeVar("E", bound=Event)

PATIENCE = 60.0
"""Seconds after which a run that does not end has failed."""


def small_config(store: Path, **changes: Any) -> OptimizerConfig:
    """Two steps of three rows: small enough for many runs, with rules and demos both."""
    settings: dict[str, Any] = {
        "student": dspy.Predict("question -> answer"),
        "metric": exact,
        "trainset": questions(8),
        "store": store,
        "lm": ScriptedLM(quiz_script),
        "prompt_model": ScriptedLM(quiz_script),
        "bsize": 3,
        "num_candidates": 2,
        "max_steps": 2,
        "max_demos": 2,
        "policy": "dspy",
        "seed": 3,
        "max_concurrency": 4,
    }
    return OptimizerConfig(**{**settings, **changes})


def asks_of(lm: object) -> list[Ask]:
    """The requests that a scripted LM got."""
    assert isinstance(lm, ScriptedLM)
    return lm.asks


async def finish(config: OptimizerConfig) -> OptimizerResult:
    """Runs until there is a result."""
    async with await Optimizer.start(config) as optimizer:
        return await asyncio.wait_for(optimizer.result(), PATIENCE)


async def reach(optimizer: Optimizer, kind: type[E]) -> E:
    """The first event of that kind, as soon as there is one."""

    async def follow() -> E:
        async for event in optimizer.events():
            if isinstance(event, kind):
                return event
        raise AssertionError(f"the run ended without {kind.__name__}")

    return await asyncio.wait_for(follow(), PATIENCE)


async def settle(optimizer: Optimizer) -> None:
    """Lets the run do in the meantime whatever it would."""
    for _ in range(20):
        await optimizer.status()


async def findings(config: OptimizerConfig, run_id: str) -> dict[str, Any]:
    """The pool, every score and the ranking of a run, as its store has them."""
    return await findings_in(Path(config.store), run_id)


async def findings_in(store: Path, run_id: str) -> dict[str, Any]:
    """The same by the store's path."""
    async with await Reader.open(store) as reader:
        run = await reader.run(run_id)
        return {
            "result": run.result,
            "programs": [(p.number, p.digest, p.parents, p.strategy, p.step) for p in await reader.programs(run_id)],
            "scores": await reader.scores(run_id),
            "steps": [(step.step, step.plan, step.result) for step in await reader.steps(run_id)],
        }
