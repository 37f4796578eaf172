"""What all tests share: no network, quiet output, and which of them are slow."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

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
