"""One cluster of Ray for all tests of a session: starting it takes seconds."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

OBJECT_STORE = 80 * 2**20
"""Bytes: the minimum that Ray accepts, since /dev/shm is small in many containers."""


START_SECONDS = 240.0
"""Seconds that a node may take to start. Ray's own 30 are too few on a machine that does much else, and a second
attempt would run beside the processes that the first has left."""

os.environ.setdefault("RAY_gcs_server_port_wait_time_s", f"{START_SECONDS:.0f}")


def start_node(cluster: Any, **options: Any) -> Any:
    """Add a node to a cluster and return it."""
    from ray._private import services

    find_node = services.get_node

    def find_node_in_time(*arguments: Any) -> Any:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                return find_node(*arguments)
            except RuntimeError:  # It has not registered yet.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(services, "get_node", find_node_in_time)
        node = cluster.add_node(wait=False, object_store_memory=OBJECT_STORE, **options)
    cluster._wait_for_node(node, timeout=START_SECONDS)
    return node


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[Any]:
    """A cluster with two CPUs, whatever the machine has. This process is connected to it."""
    import ray
    from ray.cluster_utils import Cluster

    cluster: Any = Cluster()
    try:
        start_node(cluster, num_cpus=2, include_dashboard=False)
        ray.init(address=cluster.address, configure_logging=False, log_to_driver=False)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture(scope="session")
def ray_address(ray_cluster: Any) -> str:
    """The address of that cluster."""
    return ray_cluster.address
