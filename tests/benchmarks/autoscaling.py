"""A run on a cluster that scales itself: from no worker nodes, up by demand, and down when the run has ended.

    python -m tests.benchmarks.autoscaling

Ray's own autoscaler decides, and its provider for tests starts nodes on this machine. That provider expects the cluster
at port 6379. Prints when nodes come and go during two runs, one after the other. Both must find what a run in one
process finds.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from simba_actors import Optimizer, OptimizerConfig, RayExecutor
from tests.evaluation.on_ray.setups import Locked, locked_with_own_key, pids_in
from tests.support.hosts import free_port
from tests.support.openai_server import OpenAIServer, lm_at
from tests.support.quiz import legible_script
from tests.support.runs import findings, small_config

PORT = 6379
NODES = 2
RUNS = 2
RUN = "run"
LATENCY = 0.03
IDLE_MINUTES = 0.1
PATIENCE = 120.0
OBJECT_STORE = 80 * 2**20

HEAD = "ray.head.default"
"""The type that the provider gives the head of the cluster, whatever its configuration says."""

WORKER = {"CPU": 1, "passing": 1, "object_store_memory": OBJECT_STORE}
"""What each worker node has. A worker takes `passing`, so that the head of the cluster can't run one."""

CLUSTER: dict[str, Any] = {
    "cluster_name": "autoscaling",
    "provider": {
        "type": "fake_multinode",
        "use_node_id_as_ip": True,
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
    },
    "head_node_type": HEAD,
    "available_node_types": {
        HEAD: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        "worker": {"resources": WORKER, "node_config": {}, "min_workers": 0, "max_workers": NODES},
    },
    "max_workers": NODES,
    "idle_timeout_minutes": IDLE_MINUTES,
    "upscaling_speed": 1.0,
    "auth": {},
    "docker": {},
    "file_mounts": {},
    "cluster_synced_files": [],
    "file_mounts_sync_continuously": False,
    "rsync_exclude": [],
    "rsync_filter": [],
    "initialization_commands": [],
    "setup_commands": [],
    "head_setup_commands": [],
    "worker_setup_commands": [],
    "head_start_ray_commands": [],
    "worker_start_ray_commands": [],
}

STARTED = time.monotonic()


def say(what: str) -> None:
    print(f"{time.monotonic() - STARTED:6.1f} s  {what}", flush=True)


@contextmanager
def autoscaling_cluster(folder: Path) -> Generator[Any]:
    """Start a cluster without worker nodes, connect to it, and yield the module `ray`."""
    # Before Ray is imported, which reads the environment then.
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    import ray

    config = folder / "cluster.json"
    config.write_text(json.dumps(CLUSTER))
    settings = {
        "--port": PORT,
        "--ray-client-server-port": free_port(),
        "--num-cpus": 0,
        "--include-dashboard": "false",
        "--object-store-memory": OBJECT_STORE,
        "--autoscaling-config": config,
        "--temp-dir": folder,
    }
    options = [f"{name}={value}" for name, value in settings.items()]
    environment = {**os.environ, "AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_FAKE_CLUSTER": "1"}
    with (folder / "head.log").open("w") as log:
        command = ["ray", "start", "--head", "--block", *options]
        head = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        until_it_listens()
        ray.init(address=f"127.0.0.1:{PORT}", configure_logging=False, log_to_driver=False)
        yield ray
    finally:
        ray.shutdown()
        head.terminate()
        head.wait(PATIENCE)


def until_it_listens() -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", PORT), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


def worker_nodes(ray: Any) -> int:
    return sum(node["Alive"] for node in ray.nodes()) - 1


def watch_nodes(ray: Any, over: threading.Event) -> None:
    """Print each change of the number of worker nodes."""
    known = -1
    while not over.wait(0.3):
        if (now := worker_nodes(ray)) != known:
            known = now
            say(f"{now} worker nodes")


def config_at(address: str, store: Path, **changes: Any) -> OptimizerConfig:
    lms = {"lm": lm_at(address), "prompt_model": lm_at(address)}
    return small_config(store, **{"run_id": RUN, "student": Locked(), "max_steps": 3, **lms, **changes})


async def found(config: OptimizerConfig) -> dict[str, Any]:
    async with await Optimizer.start(config) as optimizer:
        await optimizer.result()
    return await findings(config, RUN)


def main() -> None:
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name,
        OpenAIServer(legible_script, latency=LATENCY) as server,
        autoscaling_cluster(folder := Path(name)) as ray,
        ExitStack() as stack,
    ):
        expected = asyncio.run(found(config_at(server.address, folder / "local.db")))
        over = threading.Event()
        watcher = threading.Thread(target=watch_nodes, args=[ray, over])
        watcher.start()
        stack.callback(watcher.join)
        stack.callback(over.set)
        for number in range(RUNS):
            (pids := folder / f"pids{number}").mkdir()
            setup = partial(locked_with_own_key, pids, server.address)
            executor = RayExecutor(workers=NODES, options={"num_cpus": 1, "resources": {"passing": 1}}, setup=setup)
            say(f"run {number + 1} starts")
            config = config_at(server.address, folder / f"{number}.db", executor=executor)
            like = "as" if asyncio.run(found(config)) == expected else "NOT as"
            say(f"run {number + 1} has ended with {len(pids_in(pids))} workers, {like} a local one")
            deadline = time.monotonic() + PATIENCE
            while worker_nodes(ray) > 0 and time.monotonic() < deadline:
                time.sleep(0.3)


if __name__ == "__main__":
    main()
