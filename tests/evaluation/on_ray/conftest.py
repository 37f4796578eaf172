"""One cluster of Ray for all tests of a session: starting it takes seconds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

OBJECT_STORE = 80 * 2**20
"""Bytes: the least that Ray takes, since /dev/shm is small in many containers."""


START_ATTEMPTS = 3
"""Ray waits 30 seconds for a node to start, which is too short on a machine that does much else."""


def start_node(cluster: Any, **options: Any) -> Any:
    """Add a node to a cluster and return it."""
    for attempt in range(1, START_ATTEMPTS + 1):
        try:
            return cluster.add_node(object_store_memory=OBJECT_STORE, **options)
        except Exception as error:
            if attempt == START_ATTEMPTS or "timed out during startup" not in str(error):
                raise
    raise AssertionError("the last attempt returns or raises")


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
