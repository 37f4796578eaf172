"""The example for Ray, run as a reader with a cluster would run it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.router import EXAMPLES

pytestmark = pytest.mark.slow


def test_the_example_runs_on_a_cluster(ray_address: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "rollouts_on_ray.py"), "--workers", "1"],
        cwd=tmp_path,
        env={**os.environ, "RAY_ADDRESS": ray_address},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("run 'geographer-")
