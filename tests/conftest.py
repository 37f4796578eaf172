"""What all tests share: no network, no cache of an earlier run, and which of them are slow."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

CACHE = "DSPY_CACHEDIR"
"""The environment variable with the directory in which DSPy keeps replies. Processes that tests start inherit it."""

TESTS = Path(__file__).parent

SLOW = (
    "benchmarks",
    "durability",
    "examples",
    "hosts",
    "live/test_forks.py",
    "live/test_remote.py",
    "parity",
    "web/test_browser.py",
)
"""Folders and files whose tests start processes, browsers or whole runs, each for seconds."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if any(item.path.is_relative_to(TESTS / name) for name in SLOW):
            item.add_marker(pytest.mark.slow)


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(
        config, "workerinput"
    ):  # Workers of pytest-xdist have the directory of the process that started them.
        os.environ[CACHE] = tempfile.mkdtemp(prefix="simba_actors_tests_")


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ.pop(CACHE), ignore_errors=True)


def pytest_collection_finish() -> None:
    """Keep DSPy's replies in memory: it never closes the databases that each thread opens on disk."""
    dspy: Any = sys.modules.get("dspy")
    if dspy is not None:
        dspy.configure_cache(enable_disk_cache=False)
