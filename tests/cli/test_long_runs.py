"""How commands show a run with many steps."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import run_command
from tests.support.large_store import Shape, store_large_run

STEPS = 30


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("long") / "simba.db"
    asyncio.run(store_large_run(path, Shape(STEPS, candidates=1, rows=2, copies=1, examples=10)))
    return path


def show(store: Path, *options: Any) -> str:
    shown = run_command(["show", "--store", store, *options])
    assert shown.exit_code == 0, shown.output
    return shown.stdout


def listed(shown: str) -> list[int]:
    _, table = shown.split("\nstep  sampled")
    return [int(line.split()[0]) for line in table.split("\n\n")[0].splitlines()[1:]]


@pytest.mark.parametrize(
    ("limit", "steps", "note"),
    [
        ((), [1, 2, 3, *range(14, 31)], "10 steps are left out before step 14; --limit 30 shows all"),
        (("--limit", 7), [1, 2, 3, 27, 28, 29, 30], "23 steps are left out before step 27; --limit 30 shows all"),
        (("--limit", 1), [30], "29 steps are left out before step 30; --limit 30 shows all"),
        (("--limit", 29), [1, 2, 3, *range(5, 31)], "1 step is left out before step 5; --limit 30 shows all"),
    ],
)
def test_a_long_run_is_shown_with_its_first_and_newest_steps(
    store: Path, limit: tuple[Any, ...], steps: list[int], note: str
) -> None:
    shown = show(store, *limit)
    assert listed(shown) == steps
    assert shown.splitlines()[-1] == note


@pytest.mark.parametrize("limit", [30, 31, 2**63 - 1])
def test_with_room_for_all_steps_none_is_left_out(store: Path, limit: int) -> None:
    shown = show(store, "--limit", limit)
    assert listed(shown) == list(range(1, STEPS + 1))
    assert "left out" not in shown


def test_json_has_all_steps_unless_they_are_limited(store: Path) -> None:
    for limit, steps in (((), range(STEPS)), (("--limit", 2), [28, 29])):
        assert [step["step"] for step in json.loads(show(store, "--json", *limit))["steps"]] == list(steps)
