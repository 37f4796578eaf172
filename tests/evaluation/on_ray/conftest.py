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


def start_head(cluster: Any) -> None:
    for attempt in range(START_ATTEMPTS):
        try:
            cluster.add_node(num_cpus=2, object_store_memory=OBJECT_STORE, include_dashboard=False)
        except Exception as error:
            if attempt + 1 == START_ATTEMPTS or "timed out during startup" not in str(error):
                raise
        else:
            return


@pytest.fixture(scope="session")
def ray_address() -> Iterator[str]:
    """The address of a cluster with two CPUs, whatever the machine has. This process is connected to it."""
    import ray
    from ray.cluster_utils import Cluster

    cluster: Any = Cluster()
    try:
        start_head(cluster)
        ray.init(address=cluster.address, configure_logging=False, log_to_driver=False)
        yield cluster.address
    finally:
        ray.shutdown()
        cluster.shutdown()
