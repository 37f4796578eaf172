"""Rollouts on Ray: what two workers make beside one process, what a rollout costs the optimizer's process, and kills.

    python -m tests.benchmarks.ray speed
    python -m tests.benchmarks.ray kills
    python -m tests.benchmarks.ray parity
    python -m tests.benchmarks.ray nodes

`speed`: a student that takes 5 ms of CPU a call, and an LM without latency, run by the local executor and by two
workers on this machine, in turns; medians (bar: 1.6 times as many rollouts a second). Other work on the machine takes
time from both, so beside it stands what two idle cores could make, by the CPU time that rollouts took. Then the CPU
time of a rollout in the optimizer's process, with its team and its ledger, and how many rollouts a second such a
process can feed (bar: 1,500).

`kills`: one run on a cluster with three nodes on this machine, whose workers are killed 20 times with SIGKILL, and one
whose optimizer's process is killed 10 times. Both must find what an undisturbed run finds. Prints how many calls were
made again.

`parity`: each scenario of `tests/parity` under `policy="dspy"`, and a planted world of each family under the adaptive
policy, by two workers. Each must find what the local executor finds, program for program and score for score.

`nodes`: a run during which nodes join the cluster and leave it, five times each. It must find what an undisturbed run
finds.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import dspy

from simba_actors import Governor, Optimizer, OptimizerConfig, RayExecutor
from simba_actors.evaluation.executor import Executor, LocalExecutor, RolloutTask
from simba_actors.lm.governor import Caller
from simba_actors.programs import ConfigurationSpace
from simba_actors.runtime.threads import Threads
from simba_actors.strategies import AppendADemo
from tests.benchmarks.worlds import FAMILIES, student_of, train_examples, world_lm, world_of
from tests.benchmarks.worlds.tasks import metric_of
from tests.evaluation.on_ray.setups import noting, pids_in
from tests.parity.scenarios import SCENARIOS
from tests.support.children import start_child
from tests.support.openai_server import OpenAIServer, lm_at
from tests.support.quiz import exact, legible_script, questions
from tests.support.runs import findings, small_config
from tests.support.scripted_lm import ScriptedLM

ROUNDS = 3
ROLLOUTS = 600
CONCURRENCY = 128
CPU_SECONDS = 0.005
LEAST_RATIO, LEAST_RATE = 1.6, 1_500

WORKER_KILLS, DRIVER_KILLS = 20, 10
NODE_MOVES = 5
RUN = "run"
LATENCY = 0.05


class Busy(dspy.Module):
    """A student that computes for 5 ms before it asks its LM."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = dspy.Predict("question -> answer")

    async def aforward(self, question: str) -> dspy.Prediction:
        began = time.thread_time()
        while time.thread_time() - began < CPU_SECONDS:
            pass
        return await self.answer.acall(question=question)


@contextmanager
def cluster(nodes: int) -> Generator[str]:
    """Start a cluster on this machine, whose nodes declare two CPUs each."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray
    from ray.cluster_utils import Cluster

    node: dict[str, Any] = {"num_cpus": 2, "object_store_memory": 80 * 2**20}
    started: Any = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    try:
        for _ in range(nodes - 1):
            started.add_node(**node)
        ray.init(address=started.address, configure_logging=False, log_to_driver=False)
        yield started.address
    finally:
        ray.shutdown()
        started.shutdown()


# ── speed ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def executor_of(make: Callable[..., Executor], student: dspy.Module, rows: list[dspy.Example]) -> Executor:
    return make(
        student=student,
        space=ConfigurationSpace.from_module(student),
        examples={"train": rows, "val": []},
        metric=exact,
        lms={"student": ScriptedLM(legible_script)},
        governor=Governor(),
        caller=Caller(),
        threads=Threads(),
        objectives=None,
        rollout_timeout=300.0,
        on_metric_error="stop",
    )


async def rate(executor: Executor, student: dspy.Module, rows: list[dspy.Example]) -> float:
    """Return the rollouts per second, once all workers have run some."""
    configuration = ConfigurationSpace.from_module(student).extract(student)
    limit = asyncio.Semaphore(CONCURRENCY)

    async def run(number: int) -> None:
        async with limit:
            await executor.run(RolloutTask(configuration, number % len(rows)))

    await asyncio.gather(*(run(n) for n in range(CONCURRENCY)))
    began = time.perf_counter()
    await asyncio.gather(*(run(n) for n in range(ROLLOUTS)))
    return ROLLOUTS / (time.perf_counter() - began)


def cpu_of(pids: list[int]) -> float:
    """Return the CPU seconds that processes have used."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(field[11]) + int(field[12]) for field in fields) / os.sysconf("SC_CLK_TCK")


async def compare(pids: Path) -> None:
    student, rows = Busy(), questions(64)
    local = executor_of(LocalExecutor, student, rows)
    on_ray = executor_of(RayExecutor(workers=2, setup=noting(pids)), student, rows)
    rates: dict[str, list[float]] = {"local": [], "on Ray": []}
    here = dict.fromkeys(rates, 0.0)
    try:
        while len(pids_in(pids)) < 2:
            await rate(on_ray, student, rows)
        await rate(on_ray, student, rows)
        in_workers = -cpu_of(pids_in(pids))
        for _ in range(ROUNDS):
            for name, executor in (("local", local), ("on Ray", on_ray)):
                here[name] -= time.process_time()
                rates[name].append(await rate(executor, student, rows))
                here[name] += time.process_time()
        in_workers += cpu_of(pids_in(pids))
    finally:
        await on_ray.close()
    made = ROUNDS * (ROLLOUTS + CONCURRENCY) / 1e3
    alone, beside = here["local"] / made, here["on Ray"] / made
    workers = in_workers / made
    print(
        f"CPU of a rollout: {alone:.1f} ms in one process; {workers:.1f} ms in workers, and {beside:.2f} ms beside them"
    )
    print(f"by CPU time, two cores make {2 * alone / (workers + beside):.2f} times the rollouts of one")
    ratio = median(ray / one for one, ray in zip(rates["local"], rates["on Ray"], strict=True))
    for name, each in rates.items():
        print(f"{name}: {median(each):.0f} rollouts a second ({', '.join(f'{value:.0f}' for value in each)})")
    print(f"ratio: {ratio:.2f} (bar {LEAST_RATIO}), at a load of {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


async def feed(folder: Path) -> None:
    """Measure the optimizer's process in a whole run, without the seconds in which workers start."""
    config = small_config(
        folder / "simba.db",
        trainset=questions(64),
        bsize=32,
        num_candidates=6,
        max_steps=8,
        strategies=[AppendADemo()],
        max_concurrency=CONCURRENCY,
        executor=RayExecutor(workers=2),
    )
    async with Optimizer.start(config) as optimizer:
        spent, began = time.process_time(), time.perf_counter()
        await optimizer.result()
        spent, took = time.process_time() - spent, time.perf_counter() - began
        rollouts = (await optimizer.status()).rollouts
    each = spent / rollouts
    print(f"the optimizer's process takes {each * 1e3:.2f} ms of CPU a rollout, in {rollouts} rollouts ({took:.1f} s):")
    print(f"it can feed {1 / each:.0f} rollouts a second (bar {LEAST_RATE})")


def speed() -> None:
    with cluster(1), tempfile.TemporaryDirectory() as folder:
        pids = Path(folder) / "pids"
        pids.mkdir()
        asyncio.run(compare(pids))
        asyncio.run(feed(Path(folder)))


# ── kills ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def config_at(address: str, store: Path, **changes: Any) -> OptimizerConfig:
    settings: dict[str, Any] = {
        "run_id": RUN,
        "lm": lm_at(address),
        "prompt_model": lm_at(address),
        "trainset": questions(16),
        "bsize": 8,
        "num_candidates": 4,
        "max_steps": 6,
        "max_concurrency": 8,
    }
    return small_config(store, **{**settings, **changes})


async def finished(config: OptimizerConfig) -> None:
    async with Optimizer.start(config) as optimizer:
        await optimizer.result()


async def drive(address: str, ray_address: str, store: Path, pids: Path) -> None:
    executor = RayExecutor(workers=2, address=ray_address, setup=noting(pids))
    await finished(config_at(address, store, executor=executor))


def kill_workers(server: OpenAIServer, whole: int, pids: Path, draws: random.Random) -> int:
    """Kill one worker after the other, each while it runs rollouts. Return how many were killed."""
    killed: set[int] = set()
    for n in range(WORKER_KILLS):
        calls = whole * n // (WORKER_KILLS + 1) + draws.randrange(4)
        while server.calls < calls or not set(pids_in(pids)) - killed:
            time.sleep(0.005)
        victim = draws.choice(sorted(set(pids_in(pids)) - killed))
        killed.add(victim)
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            return n
    return WORKER_KILLS


def ending(*, same: bool) -> str:
    return "the same result" if same else "ANOTHER RESULT"


def worker_kills(expected: Any, whole: int, folder: Path) -> None:
    pids = folder / "pids"
    pids.mkdir()
    with OpenAIServer(legible_script, latency=LATENCY) as server:
        counted: list[int] = []
        killer = threading.Thread(
            target=lambda: counted.append(kill_workers(server, whole, pids, random.Random(1))), daemon=True
        )
        killer.start()
        config = config_at(server.address, folder / "workers.db", executor=RayExecutor(workers=3, setup=noting(pids)))
        asyncio.run(finished(config))
        killer.join(10)
        again = server.calls - whole
    same = asyncio.run(findings(config, RUN)) == expected
    kills = counted[0] if counted else f"fewer than {WORKER_KILLS}"
    print(f"workers killed {kills} times: {ending(same=same)}, {again} of {whole} calls again")


def driver_kills(expected: Any, whole: int, ray_address: str, folder: Path) -> None:
    pids, store = folder / "pids of drivers", folder / "drivers.db"
    pids.mkdir()
    draws = random.Random(2)
    kills = 0
    with OpenAIServer(legible_script, latency=LATENCY) as server:
        while True:
            calls = server.calls + draws.randrange(2, max(3, 2 * whole // DRIVER_KILLS))
            child = start_child(drive, server.address, ray_address, store, pids)
            while child.exitcode is None and (server.calls < calls or kills >= DRIVER_KILLS):
                child.join(0.005)
            if child.exitcode is not None:
                break
            child.kill()
            child.join()
            kills += 1
        again = server.calls - whole
    config = config_at(server.address, store)
    same = asyncio.run(findings(config, RUN)) == expected
    orphans = [pid for pid in pids_in(pids) if Path(f"/proc/{pid}").exists()]
    print(
        f"optimizer's process killed {kills} times: {ending(same=same)}, {again} of {whole} calls again, "
        f"{len(orphans)} workers left"
    )


def kills() -> None:
    with cluster(3) as ray_address, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with OpenAIServer(legible_script) as server:
            config = config_at(server.address, folder / "whole.db")
            asyncio.run(finished(config))
            expected, whole = asyncio.run(findings(config, RUN)), server.calls
        worker_kills(expected, whole, folder)
        driver_kills(expected, whole, ray_address, folder)


# ── parity ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def of_scenario(name: str, store: Path) -> OptimizerConfig:
    scenario = SCENARIOS[name]
    teacher = ScriptedLM(scenario.script, temperature=0.7) if scenario.teacher else None
    return OptimizerConfig(
        student=scenario.student(),
        metric=scenario.metric,
        trainset=scenario.trainset(scenario.rows),
        store=store,
        run_id=RUN,
        lm=ScriptedLM(scenario.script),
        teacher_lm=teacher,
        policy="dspy",
        **scenario.settings,
    )


def of_world(family: str, store: Path) -> OptimizerConfig:
    world = world_of(family, 0)
    return OptimizerConfig(
        student=student_of(world),
        metric=metric_of(world),
        trainset=train_examples(world, 32),
        store=store,
        run_id=RUN,
        lm=world_lm(world),
        bsize=8,
        num_candidates=4,
        max_steps=4,
        seed=1,
    )


def parity() -> None:
    differs: list[str] = []
    makers = [(name, partial(of_scenario, name)) for name in SCENARIOS]
    makers += [(f"world {family}", partial(of_world, family)) for family in FAMILIES]
    with cluster(1), tempfile.TemporaryDirectory() as folder:
        for number, (name, make) in enumerate(makers):
            found: list[Any] = []
            for executor in (None, RayExecutor(workers=2)):
                config = make(Path(folder) / f"{number} {executor is None}.db")
                asyncio.run(finished(config if executor is None else replace(config, executor=executor)))
                found.append(asyncio.run(findings(config, RUN)))
            programs = len(found[0]["programs"])
            print(f"{name}: {ending(same=found[0] == found[1])}, {programs} programs", flush=True)
            differs += [name] if found[0] != found[1] else []
    print(f"{len(makers) - len(differs)} of {len(makers)} runs are the same; others: {', '.join(differs) or 'none'}")


# ── nodes ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def nodes() -> None:
    """Add and remove nodes that hold all workers, since the head declares no CPU."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray
    from ray.cluster_utils import Cluster

    node: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    started: Any = Cluster(initialize_head=True, head_node_args={**node, "num_cpus": 0, "include_dashboard": False})

    def come_and_go(run: threading.Thread, server: OpenAIServer, whole: int) -> int:
        """Return how often a node was added and another removed during the run."""
        up = [started.add_node(**node), started.add_node(**node)]
        for n in range(1, NODE_MOVES + 1):
            while server.calls < whole * n // (NODE_MOVES + 2):
                if not run.is_alive():
                    return n - 1
                time.sleep(0.01)
            up.append(started.add_node(**node))
            started.remove_node(up.pop(0), allow_graceful=n % 2 == 0)
        return NODE_MOVES

    try:
        ray.init(address=started.address, configure_logging=False, log_to_driver=False)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            with OpenAIServer(legible_script) as server:
                config = config_at(server.address, folder / "whole.db")
                asyncio.run(finished(config))
                expected, whole = asyncio.run(findings(config, RUN)), server.calls
            with OpenAIServer(legible_script, latency=LATENCY) as server:
                config = config_at(server.address, folder / "nodes.db", executor=RayExecutor(workers=2))
                # Ray's nodes can be added by the main thread only.
                run = threading.Thread(target=lambda: asyncio.run(finished(config)))
                run.start()
                moves = come_and_go(run, server, whole)
                run.join()
                again = server.calls - whole
            same = asyncio.run(findings(config, RUN)) == expected
        print(f"nodes came and went {moves} times: {ending(same=same)}, {again} of {whole} calls again")
    finally:
        ray.shutdown()
        started.shutdown()


PARTS: dict[str, Callable[[], None]] = {"speed": speed, "kills": kills, "parity": parity, "nodes": nodes}

if __name__ == "__main__":
    logging.getLogger("simba_actors").setLevel(logging.ERROR)
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
