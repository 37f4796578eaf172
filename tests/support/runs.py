"""Small runs, and the findings of a run that must be the same whatever happened to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import dspy

from simba_actors import Optimizer, OptimizerConfig, OptimizerResult
from simba_actors.events import Event
from simba_actors.store import Reader
from tests.support.quiz import exact, questions, quiz_script
from tests.support.scripted_lm import Ask, ScriptedLM
from tests.support.waiting import PATIENCE

E = TypeVar("E", bound=Event)


def small_config(store: Path, **changes: Any) -> OptimizerConfig:
    """Return the config of a run of two steps with three examples each, which makes both rules and demos."""
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
    """Return the requests that a scripted LM answered."""
    assert isinstance(lm, ScriptedLM)
    return lm.asks


async def finish(config: OptimizerConfig) -> OptimizerResult:
    """Run until there is a result, and return it."""
    async with await Optimizer.start(config) as optimizer:
        return await optimizer.result(PATIENCE)


async def reach(optimizer: Optimizer, kind: type[E], wanted: Callable[[E], bool] = lambda _: True) -> E:
    """Wait for the first event of that kind that is `wanted`, and return it."""
    async with asyncio.timeout(PATIENCE):
        async for event in optimizer.events():
            if isinstance(event, kind) and wanted(event):
                return event
    raise AssertionError(f"the run ended without {kind.__name__}")


async def events_of(optimizer: Optimizer, kind: type[E], after: int = 0) -> list[E]:
    """Wait until the run has ended, and return its events of that kind."""
    async with asyncio.timeout(PATIENCE):
        return [event async for event in optimizer.events(after) if isinstance(event, kind)]


async def settle(optimizer: Optimizer) -> None:
    """Give the run time for further work, if it has any: the time of some reads of its store."""
    for _ in range(20):
        await optimizer.status()


async def findings(config: OptimizerConfig, run_id: str) -> dict[str, Any]:
    """Return the pool, the scores, the steps and the ranking of a run, as stored."""
    return await findings_in(Path(config.store), run_id)


async def findings_in(store: Path, run_id: str) -> dict[str, Any]:
    """Return the findings of a run in the store at that path."""
    async with await Reader.open(store) as reader:
        run = await reader.run(run_id)
        return {
            "result": run.result,
            "programs": [(p.number, p.digest, p.parents, p.strategy, p.step) for p in await reader.programs(run_id)],
            "scores": await reader.scores(run_id),
            "steps": [(step.step, step.plan, step.result) for step in await reader.steps(run_id)],
        }
