"""The benchmark of the dashboard runs. Only a full run measures how long pages take."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_small_store_has_a_time_for_each_page() -> None:
    command = [sys.executable, "-m", "tests.benchmarks.dashboard", "--programs", "50"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("of the bar") == 11
