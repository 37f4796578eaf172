"""What all tests share: no network, no cache of an earlier run, and which of them are slow."""

from __future__ import annotations

import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Generator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

# Tests start hundreds of processes, each of which would otherwise compile the package again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

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

LONGEST = (
    "evaluation/on_ray",
    "durability/test_crash_places.py",
    "hosts/test_workers.py",
    "examples/test_examples.py",
    "durability/test_kills.py",
    "parity",
    "examples/test_quickstart.py",
    "hosts/test_servers.py",
    "examples/test_recipes.py",
    "examples/test_fastapi_service.py",
    "web/test_browser.py",
    "durability/test_kills_of_stoppers.py",
    "examples/test_readme.py",
)
"""Folders and files that take longest, the longest first. One worker runs all tests of an entry, so that those in
`evaluation/on_ray` share a cluster."""


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Generator[None]:
    for item in items:
        if entry_of(item.path, SLOW) is not None:
            item.add_marker(pytest.mark.slow)
    yield
    # Here the tests are selected and shuffled.
    spread(items, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))


@cache
def entry_of(path: Path, entries: tuple[str, ...]) -> str | None:
    """Return the file or folder among `entries` that a test file belongs to."""
    return next((entry for entry in entries if path.is_relative_to(TESTS / entry)), None)


def spread(items: list[pytest.Item], workers: int) -> None:
    """Let each worker begin with some of the longest tests, since one that starts last would delay the end.

    pytest-xdist gives each worker an equal part of the list. One that is done takes from the end of another's part.
    """
    entries: dict[str | None, list[pytest.Item]] = {entry: [] for entry in (*LONGEST, None)}
    for item in items:
        entries[entry_of(item.path, LONGEST)].append(item)
    others = iter(entries.pop(None))
    first = [[item for entry in LONGEST[worker::workers] for item in entries[entry]] for worker in range(workers)]
    total = len(items)
    ends = [total * (worker + 1) // workers for worker in range(workers)]
    items[:] = []
    for own, end in zip(first, ends, strict=True):
        items.extend([*own, *islice(others, max(0, end - len(items) - len(own)))])
    items.extend(others)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Start one worker more than there are processors, because many tests wait for other processes."""
    return (os.cpu_count() or 1) + 1


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # Workers of pytest-xdist inherit it.
        os.environ[CACHE] = tempfile.mkdtemp(prefix="simba_actors_tests_")


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ.pop(CACHE), ignore_errors=True)


def pytest_collection_finish() -> None:
    """Keep DSPy's replies in memory: it never closes the databases that each thread opens on disk.

    Modules and tests stay to the end, so no garbage collection needs to go through their 250,000 objects.
    """
    dspy: Any = sys.modules.get("dspy")
    if dspy is not None:
        dspy.configure_cache(enable_disk_cache=False)
    gc.collect()
    gc.freeze()
