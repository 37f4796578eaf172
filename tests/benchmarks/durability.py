"""The cost of durability.

    python -m tests.benchmarks.durability

An LM without latency: rollouts a second of a run with its ledger, as a share of those of the same run with a store
that keeps rollouts in memory and forgets steps and events (bar: at least 0.9); beside them the executor alone on the
same rollouts, without a run around it. They take turns; medians. Then the seconds until a run with 100,000 stored
rollouts starts work (bar: 2).
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, cast
from unittest.mock import patch

from simba_actors import Optimizer, OptimizerConfig
from simba_actors.evaluation.executor import RolloutTask
from simba_actors.events import Event
from simba_actors.hosting.assembly import assemble
from simba_actors.hosting.policies import policy_of
from simba_actors.programs import Configuration
from simba_actors.search.evidence import Evidence
from simba_actors.search.policy import TriedStep
from simba_actors.search.rollout import STUDENT, STUDENT_LM, Outcome, Phase, RolloutKey, Trajectory, Usage
from simba_actors.store import Owner, Reader
from simba_actors.store.records import (
    AddProgram,
    AddRollouts,
    CloseStep,
    OpenStep,
    Program,
    RecordProposal,
    RecordRollout,
    RolloutRecord,
    SetStatus,
    Write,
)
from simba_actors.store.store import Store
from simba_actors.strategies import AppendADemo
from simba_actors.team import pool_keeper
from simba_actors.team.pool_view import PoolView
from tests.support.quiz import exact, questions, quiz_script
from tests.support.runs import small_config
from tests.support.scripted_lm import ScriptedLM

ROUNDS = 5
CONCURRENCY = 32
STEPS = 50
ROLLOUTS_A_STEP = 2_000

LEAST_SHARE = 0.9
MOST_SECONDS = 2.0


def config_for(store: Path, **changes: Any) -> OptimizerConfig:
    settings: dict[str, Any] = {
        "trainset": questions(64),
        "bsize": 32,
        "num_candidates": 6,
        "max_steps": 8,
        "strategies": [AppendADemo()],
        "max_concurrency": CONCURRENCY,
        "policy": "dspy",
        "run_id": "run",
    }
    return small_config(store, **{**settings, **changes})


class MemoryReader(Reader):
    """A store that keeps rollouts in memory."""

    def __init__(self, reader: Reader) -> None:
        vars(self).update(vars(reader))
        self.records: dict[RolloutKey, RolloutRecord] = {}

    def note(self, write: Write) -> None:
        match write:
            case OpenStep(rollouts=rollouts) | AddRollouts(rollouts=rollouts) | RecordProposal(rollouts=rollouts):
                for rollout in rollouts:
                    self.records.setdefault(rollout.key, RolloutRecord(rollout, None))
            case RecordRollout(key=key, trajectory=trajectory):
                self.records[key] = replace(self.records[key], trajectory=trajectory)
            case _:
                pass

    async def rollouts(self, run_id: str, step: int, phase: Phase, program: int | None = None) -> list[RolloutRecord]:
        asked_for = [
            record
            for key, record in self.records.items()
            if (key.step, key.phase) == (step, phase) and program in (None, record.rollout.program)
        ]
        return sorted(asked_for, key=lambda record: record.rollout.key.position)


class MemoryStore(Store):
    """A store that writes only programs and the run's end to its file."""

    @classmethod
    async def open(cls, path: str | Path, **options: Any) -> MemoryStore:
        store = cast("MemoryStore", await super().open(path, **options))
        store.read = MemoryReader(store.read)
        return store

    async def commit(
        self, run_id: str, owner: Owner, writes: Sequence[Write] = (), events: Sequence[Event] = ()
    ) -> list[Event]:
        for write in writes:
            cast("MemoryReader", self.read).note(write)
        for_the_file = [
            replace(write, rollouts=()) if isinstance(write, RecordProposal) else write
            for write in writes
            if isinstance(write, AddProgram | RecordProposal | SetStatus)
        ]
        if for_the_file:
            await super().commit(run_id, owner, for_the_file)
        return [event.stamped(run_id, 0, 0.0) for event in events]


async def of_a_run(store: Path) -> float:
    """Return the seconds that a run takes once it is assembled."""
    async with await Optimizer.start(config_for(store)) as optimizer:
        started = time.perf_counter()
        await optimizer.result()
        return time.perf_counter() - started


async def of_the_executor(store: Path) -> float:
    """Return the seconds that the executor takes for the rollouts of the run in `store`."""
    tasks = iter(await tasks_of(store))
    executor = assemble(config_for(store), lambda error: None, lambda events: None, lambda request: None).executor

    async def work() -> None:
        for task in tasks:
            await executor.run(task)

    started = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(CONCURRENCY)))
    return time.perf_counter() - started


async def tasks_of(store: Path) -> Sequence[RolloutTask]:
    async with await Reader.open(store) as reader:
        programs = {p.number: Configuration.from_json(p.configuration) for p in await reader.programs("run")}
        scores = await reader.scores("run")
    return [RolloutTask(programs[score.program], score.example, score.model, score.split) for score in scores]


async def overhead(directory: Path) -> float:
    kept, forgotten, bare = list[float](), list[float](), list[float]()
    for number in range(ROUNDS):
        store = directory / f"{number}.db"
        kept.append(await of_a_run(store))
        with patch.object(pool_keeper, "Store", MemoryStore):
            forgotten.append(await of_a_run(directory / f"{number}-forgotten.db"))
        bare.append(await of_the_executor(store))
    count = len(await tasks_of(directory / "0.db"))
    with_it, without, alone = (count / median(seconds) for seconds in (kept, forgotten, bare))
    print(f"{with_it:.0f} rollouts/s with the ledger, {without:.0f} without: {with_it / without:.2f}")
    print(f"{alone:.0f} rollouts/s of the executor alone, of which a run with its ledger is {with_it / alone:.2f}")
    return with_it / without


async def fill(config: OptimizerConfig) -> None:
    """Store a run with `STEPS` steps, the last one open with a few rollouts to do."""
    run = assemble(config, lambda error: None, lambda events: None, lambda request: None)
    policy = policy_of(config, {STUDENT_LM: config.lm}, tuple(each.name for each in config.chosen_strategies()))
    owner, evidence, configuration = Owner.this_process(), Evidence(), run.space.extract(config.student)
    left = Trajectory(Outcome.SCORED, 1.0, {"answer": "red"}, (), usage=Usage(1, 100, 10, 0.0001))
    store = await Store.open(config.store)
    await store.claim(run.new, owner)
    baseline = Program(STUDENT, configuration.digest, configuration.to_json(), (), "student", -1)
    await store.commit("run", owner, [AddProgram(baseline)])
    state = policy.initial_state()
    pool = PoolView({STUDENT: configuration}, configuration, run.space)
    for number in range(STEPS):
        plan = policy.open_step(state, state, number, evidence, pool)
        assert plan is not None
        last = number == STEPS - 1
        done = plan.rollouts[: -CONCURRENCY if last else None]
        results = [RecordRollout(rollout.key, left) for rollout in done]
        await store.commit("run", owner, [OpenStep(number, plan.to_json(), plan.rollouts), *results])
        if not last:
            closed = policy.close_step(state, TriedStep(plan, (), ()), evidence, pool)
            state = closed.state
            await store.commit("run", owner, [CloseStep(number, closed.to_json())])
    await store.release("run", owner)
    await store.close()


async def resume(directory: Path) -> float:
    """Return the seconds from the start of a large run to its first call."""
    called = asyncio.Event()

    def script(ask: Any) -> Any:
        called.set()
        return quiz_script(ask)

    config = config_for(
        directory / "large.db",
        trainset=questions(200),
        bsize=200,
        num_candidates=ROLLOUTS_A_STEP // 200,
        max_steps=STEPS + 1,
        metric=exact,
    )
    await fill(config)
    lm = ScriptedLM(script)
    started, busy = time.perf_counter(), time.process_time()
    async with await Optimizer.start(replace(config, lm=lm, prompt_model=lm)):
        await called.wait()
        seconds, busy = time.perf_counter() - started, time.process_time() - busy
    stored = STEPS * ROLLOUTS_A_STEP
    print(
        f"a run with {stored:,} stored rollouts starts work after {seconds:.2f} s ({busy:.2f} s of them on a processor)"
    )
    return seconds


async def main() -> None:
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as directory:
        share, seconds = await overhead(Path(directory)), await resume(Path(directory))
    good = share >= LEAST_SHARE and seconds <= MOST_SECONDS
    print("both bars are met" if good else f"missed: share >= {LEAST_SHARE}, seconds <= {MOST_SECONDS:g}")


if __name__ == "__main__":
    asyncio.run(main())
