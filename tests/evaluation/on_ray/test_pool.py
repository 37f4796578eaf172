"""Which worker runs which rollout, and which rollout is held responsible when workers die."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

import dspy
import pytest

from simba_actors import Governor, RayExecutor
from simba_actors.errors import ConfigError, MetricError, RunError
from simba_actors.evaluation.executor import RolloutTask
from simba_actors.evaluation.on_ray import pool
from simba_actors.evaluation.on_ray.cluster import Connection, RemoteWorker, WorkerLostError
from simba_actors.evaluation.on_ray.messages import Ended
from simba_actors.evaluation.on_ray.pool import WorkerPool
from simba_actors.evaluation.on_ray.pool_worker import PoolWorker
from simba_actors.lm.governor import Caller
from simba_actors.programs import ConfigurationSpace
from simba_actors.runtime.threads import Threads
from simba_actors.search.rollout import Outcome, Trajectory
from tests.support.quiz import exact, questions, quiz_script
from tests.support.scripted_lm import ScriptedLM
from tests.support.waiting import PATIENCE

DIED = WorkerLostError("its process died")
NODE_DIED = WorkerLostError("its node has died", with_node=True)
SCORED = Trajectory(Outcome.SCORED, 1.0, {}, ())

pytestmark = pytest.mark.usefixtures("quiet")


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)


class Bench:
    """A pool without Ray: the test decides when workers come and go, and nothing is sent to them."""

    def __init__(self, workers: int = 2) -> None:
        student = dspy.Predict("question -> answer")
        space = ConfigurationSpace.from_module(student)
        self.configuration = space.extract(student)
        self.pool: WorkerPool = RayExecutor(workers=workers)(
            student=student,
            space=space,
            examples={"train": questions(8), "val": []},
            metric=exact,
            lms={"student": ScriptedLM(quiz_script)},
            governor=Governor(),
            caller=Caller(),
            threads=Threads(),
            objectives=None,
            rollout_timeout=60.0,
            on_metric_error="stop",
        )
        for _ in range(workers):
            self.add()

    def add(self) -> None:
        self.pool._up.append(PoolWorker(cast("RemoteWorker", None), Governor(), Caller()))
        self.pool._assign()

    async def start(self, *examples: int) -> list[asyncio.Task[Any]]:
        tasks = [asyncio.create_task(self.pool._fly(RolloutTask(self.configuration, n))) for n in examples]
        await asyncio.sleep(0)
        return tasks

    @property
    def running(self) -> list[list[int]]:
        """The examples that each worker runs, the busiest first."""
        examples = [
            sorted(cast("RolloutTask", flight.work).example for flight in worker.flights.values())
            for worker in self.pool._up
        ]
        return sorted(examples, key=lambda each: (-len(each), each))

    def lose(self, index: int, why: WorkerLostError = DIED) -> None:
        """Lose the worker that runs an example, and start another in its place."""
        worker = next(each for each in self.pool._up if index in self._examples(each))
        self.pool._up.remove(worker)
        self.pool._lost(worker, why)
        self.add()

    def finish(self, index: int) -> None:
        worker = next(each for each in self.pool._up if index in self._examples(each))
        number = next(n for n, flight in worker.flights.items() if cast("Any", flight.work).example == index)
        self.pool._take(worker, [Ended(number, SCORED)])

    def _examples(self, worker: PoolWorker) -> list[int]:
        return [cast("RolloutTask", flight.work).example for flight in worker.flights.values()]


async def end(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=PATIENCE)


async def test_rollouts_go_to_the_worker_that_has_the_fewest() -> None:
    bench = Bench()
    tasks = await bench.start(0, 1, 2, 3)
    assert bench.running == [[0, 2], [1, 3]]
    await end(tasks)


async def test_the_rollouts_of_a_worker_that_dies_run_again() -> None:
    bench = Bench()
    tasks = await bench.start(0, 1)
    bench.lose(0)
    assert bench.running == [[0], [1]]
    bench.finish(0)
    assert await tasks[0] is SCORED
    await end(tasks[1:])


async def test_a_rollout_whose_worker_died_twice_beside_another_runs_alone() -> None:
    bench = Bench(workers=1)
    tasks = await bench.start(0, 1)
    bench.lose(0)
    bench.lose(0)
    assert bench.running == [[0]]
    bench.finish(0)
    assert bench.running == [[1]]
    await end(tasks)


async def test_others_run_while_one_runs_alone() -> None:
    bench = Bench()
    tasks = await bench.start(0, 1, 2, 3)
    bench.lose(0)
    bench.lose(0)
    bench.finish(0)
    tasks += await bench.start(4)
    assert bench.running == [[1, 3, 4], [2]]
    await end(tasks)


async def test_a_rollout_that_ran_alone_when_its_worker_died_again_has_failed() -> None:
    bench = Bench(workers=1)
    tasks = await bench.start(0)
    bench.lose(0)
    bench.lose(0)
    ended = await tasks[0]
    assert ended.outcome is Outcome.PROGRAM_FAILURE
    assert ended.error == (
        "WorkerDied: the rollout's worker process died 2 times, at last with nothing else running there: "
        "its process died"
    )


async def test_a_rollout_is_not_held_responsible_for_its_node() -> None:
    bench = Bench(workers=1)
    tasks = await bench.start(0)
    for _ in range(5):
        bench.lose(0, NODE_DIED)
    assert bench.running == [[0]]
    await end(tasks)


async def test_a_metric_that_ends_its_worker_each_time_is_an_error() -> None:
    bench = Bench(workers=1)
    trying = asyncio.create_task(bench.pool._fly(None))
    await asyncio.sleep(0)
    for _ in range(2):
        (worker,) = bench.pool._up
        bench.pool._up.clear()
        bench.pool._lost(worker, DIED)
        bench.add()
    with pytest.raises(MetricError, match="a worker died each time the metric was tried: its process died"):
        await trying


async def test_a_cancelled_rollout_leaves_its_worker() -> None:
    bench = Bench(workers=1)
    tasks = await bench.start(0, 1)
    await end(tasks[:1])
    assert bench.running == [[1]]
    await end(tasks[1:])


async def test_options_that_ray_does_not_know_are_named() -> None:
    with pytest.raises(ConfigError, match=r"RayExecutor\(options=…\): Ray refuses them: .* cpus "):
        Connection(None, Threads()).start_worker({"cpus": 2})


async def test_a_worker_that_fails_to_start_in_an_unknown_way_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(_: WorkerPool) -> PoolWorker:
        raise LookupError("no such node")

    monkeypatch.setattr(WorkerPool, "_start_worker", fail)
    monkeypatch.setattr(pool, "LONGEST_PAUSE", 0.0)
    workers = Bench(workers=1).pool
    with pytest.raises(RunError, match="no such node"):
        await asyncio.wait_for(workers._started(1), PATIENCE)
    await workers.close()
