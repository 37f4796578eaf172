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


@pytest.fixture(scope="session")
def ray_address() -> Iterator[str]:
    """The address of a cluster with two CPUs, whatever the machine has. This process is connected to it."""
    import ray
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 2, "object_store_memory": OBJECT_STORE, "include_dashboard": False}
    cluster: Any = Cluster(initialize_head=True, head_node_args=head)
    try:
        ray.init(address=cluster.address, configure_logging=False, log_to_driver=False)
        yield cluster.address
    finally:
        ray.shutdown()
        cluster.shutdown()
