"""Whole runs on a cluster: they end like runs in one process, whoever is killed meanwhile."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from simba_actors import Governor, Optimizer, OptimizerConfig, RayExecutor
from simba_actors.errors import ConfigError
from simba_actors.evaluation.executor import RolloutTask
from simba_actors.evaluation.on_ray import pool
from simba_actors.evaluation.on_ray.cluster import Connection
from simba_actors.lm.governor import Caller
from simba_actors.programs import ConfigurationSpace
from simba_actors.runtime.threads import Threads
from simba_actors.search.rollout import Outcome
from tests.evaluation.on_ray.conftest import start_node
from tests.evaluation.on_ray.setups import Deadly, Locked, locked_with_own_key, pids_in
from tests.support.children import start_child
from tests.support.openai_server import OpenAIServer, lm_at
from tests.support.quiz import exact, legible_script, questions
from tests.support.runs import findings, finish, small_config
from tests.support.waiting import PATIENCE, block_until, ended, kill, until

pytestmark = pytest.mark.slow

KILLS = 2
LATENCY = 0.03


def config_at(address: str, store: Path, **changes: Any) -> OptimizerConfig:
    lms = {"lm": lm_at(address), "prompt_model": lm_at(address)}
    return small_config(store, **{"run_id": "on ray", "student": Locked(), "max_steps": 3, **lms, **changes})


def found(config: OptimizerConfig) -> dict[str, Any]:
    return asyncio.run(findings(config, "on ray"))


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], int]:
    """Return the findings of the run in one process, and the number of its calls."""
    with OpenAIServer(legible_script) as server:
        config = config_at(server.address, tmp_path_factory.mktemp("local") / "simba.db")
        asyncio.run(finish(config))
        return found(config), server.calls


@dataclass
class Killed:
    """The outcome of a run whose workers were killed."""

    found: dict[str, Any]
    calls: int
    keys: set[str]
    """The API keys of its calls."""
    warnings: list[str]


@pytest.fixture(scope="module")
def killed(ray_address: str, tmp_path_factory: pytest.TempPathFactory) -> Killed:
    """A run with two workers, one of which is killed, then another one."""
    pids, warnings = tmp_path_factory.mktemp("pids"), Warnings()
    with OpenAIServer(legible_script, latency=LATENCY) as server:

        def kill() -> None:
            for n in range(KILLS):
                block_until(lambda n=n: server.calls >= 4 + 8 * n and len(pids_in(pids)) > n)
                os.kill(pids_in(pids)[n], signal.SIGKILL)

        executor = RayExecutor(workers=2, setup=partial(locked_with_own_key, pids, server.address))
        config = config_at(server.address, tmp_path_factory.mktemp("killed") / "simba.db", executor=executor)
        killer = threading.Thread(target=kill)
        killer.start()
        with warnings, pytest.MonkeyPatch.context() as patch:
            patch.setattr(pool, "ROOM_SECONDS", PATIENCE)  # Workers may take long to start, and that is no warning.
            asyncio.run(finish(config))
        killer.join(PATIENCE)
        keys = {headers["authorization"].removeprefix("Bearer ") for headers in server.headers}
        return Killed(found(config), server.calls, keys, warnings.messages)


class Warnings(logging.Handler):
    """Records the package's warnings within the block."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())

    def __enter__(self) -> None:
        logging.getLogger("simba_actors").addHandler(self)

    def __exit__(self, *_: object) -> None:
        logging.getLogger("simba_actors").removeHandler(self)


def test_a_run_whose_workers_are_killed_ends_like_an_undisturbed_one_in_one_process(
    killed: Killed, undisturbed: tuple[dict[str, Any], int]
) -> None:
    assert killed.found == undisturbed[0]


def test_only_calls_in_flight_are_made_again(killed: Killed, undisturbed: tuple[dict[str, Any], int]) -> None:
    again = killed.calls - undisturbed[1]
    print(f"{KILLS} workers killed, {again} of {undisturbed[1]} calls made again")
    assert 0 <= again <= KILLS * 4  # Rollouts of one call, 4 at a time.


def test_each_lost_worker_is_one_warning(killed: Killed) -> None:
    assert [text.partition(" (")[0] for text in killed.warnings] == ["a Ray worker was lost"] * KILLS


def test_the_lm_that_setup_makes_has_the_key_of_its_worker(killed: Killed) -> None:
    assert {key.rpartition("-")[0] for key in killed.keys - {"none"}} == {"sk-worker"}


async def drive(address: str, cluster: str, store: Path, pids: Path) -> None:
    """The main function of the optimizer's process that is killed."""
    executor = RayExecutor(workers=1, address=cluster, setup=partial(locked_with_own_key, pids, address))
    await finish(config_at(address, store, executor=executor))


def test_a_run_whose_optimizer_is_killed_continues_and_its_workers_end(
    ray_address: str, undisturbed: tuple[dict[str, Any], int], tmp_path: Path
) -> None:
    pids, store = tmp_path / "pids", tmp_path / "simba.db"
    pids.mkdir()
    with OpenAIServer(legible_script, latency=LATENCY) as server:
        child = start_child(drive, server.address, ray_address, store, pids)
        block_until(lambda: server.calls >= 10)
        kill(child)
        (orphan,) = pids_in(pids)
        block_until(lambda: not is_alive(orphan))
        asyncio.run(drive(server.address, ray_address, store, pids))
        config = config_at(server.address, store)
    assert found(config) == undisturbed[0]


def test_a_run_whose_nodes_come_and_go_ends_like_an_undisturbed_one(
    ray_cluster: Any, undisturbed: tuple[dict[str, Any], int], tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    pids.mkdir()
    # Workers need what the nodes have that come and go, so none runs on another node.
    passing = {"num_cpus": 1, "resources": {"passing": 1}}
    with OpenAIServer(legible_script, latency=LATENCY) as server:
        executor = RayExecutor(workers=2, options=passing, setup=partial(locked_with_own_key, pids, server.address))
        config = config_at(server.address, tmp_path / "simba.db", executor=executor)
        # Ray's nodes can be added by the main thread only.
        run = threading.Thread(target=lambda: asyncio.run(finish(config)))
        run.start()
        first = start_node(ray_cluster, **passing)
        block_until(lambda: server.calls >= 4)
        server.held = True  # The run must not end before the second node is there.
        second = start_node(ray_cluster, **passing)
        ray_cluster.remove_node(first)
        server.held = False
        run.join(2 * PATIENCE)
        ended = not run.is_alive()
        ray_cluster.remove_node(second)
    assert ended
    assert len(pids_in(pids)) > 1
    assert found(config) == undisturbed[0]


@pytest.mark.usefixtures("ray_address")
async def test_a_rollout_that_ends_its_worker_twice_is_a_failure_of_the_program() -> None:
    student = Deadly()
    space = ConfigurationSpace.from_module(student)
    with OpenAIServer(legible_script) as server:
        workers = RayExecutor(workers=1)(
            student=student,
            space=space,
            examples={"train": questions(1), "val": []},
            metric=exact,
            lms={"student": lm_at(server.address)},
            governor=Governor(),
            caller=Caller(),
            threads=Threads(),
            objectives=None,
            rollout_timeout=60.0,
            on_metric_error="stop",
        )
        try:
            ended = await asyncio.wait_for(workers.run(RolloutTask(space.extract(student), 0)), PATIENCE)
        finally:
            await workers.close()
    assert ended.outcome is Outcome.PROGRAM_FAILURE
    assert str(ended.error).startswith("WorkerDied: the rollout's worker process died 2 times")


async def test_a_student_that_cannot_travel_is_refused_before_a_cluster_is_needed(tmp_path: Path) -> None:
    executor = RayExecutor(workers=1, address="127.0.0.1:1")
    with pytest.raises(ConfigError, match=r"student\.lock: cannot pickle '_thread\.lock' object"):
        await Optimizer.start(small_config(tmp_path / "simba.db", student=Locked(), executor=executor))


async def wait_for_a_cluster(store: Path) -> None:
    """Try two times to reach a cluster that does not exist. Exit with an error unless that is exactly one warning."""
    warnings, failed = Warnings(), list[OSError]()
    probe = Connection._probe_address

    async def noted(self: Connection) -> None:
        try:
            await probe(self)
        except OSError as error:
            failed.append(error)
            raise

    Connection._probe_address = noted
    config = small_config(store, executor=RayExecutor(workers=1, address="127.0.0.1:1"))
    with warnings:
        starting = asyncio.create_task(Optimizer.start(config))
        await until(lambda: len(failed) == 2)
        starting.cancel()
        with suppress(asyncio.CancelledError):
            await starting
    assert [text.partition(" (")[0] for text in warnings.messages] == ["no Ray cluster answers at 127.0.0.1:1"]


def test_a_cluster_that_is_not_there_is_waited_for_with_one_warning(tmp_path: Path) -> None:
    child = start_child(wait_for_a_cluster, tmp_path / "simba.db")
    assert ended(child) == 0
