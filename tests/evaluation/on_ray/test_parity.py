"""Runs on Ray find what runs in one process find, program for program and score for score.

`python -m tests.benchmarks.ray parity` compares all scenarios and worlds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from simba_actors import OptimizerConfig, RayExecutor
from tests.benchmarks.ray import RUN, of_scenario, of_world
from tests.support.runs import findings, finish

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_address")]


@pytest.mark.parametrize(
    "make", [partial(of_scenario, "teacher"), partial(of_world, "pipeline")], ids=["as dspy.SIMBA", "adaptive"]
)
async def test_a_run_on_ray_finds_what_one_in_this_process_finds(
    make: Callable[[Path], OptimizerConfig], tmp_path: Path
) -> None:
    here = make(tmp_path / "here.db")
    on_ray = replace(make(tmp_path / "ray.db"), executor=RayExecutor(workers=2))
    await finish(here)
    await finish(on_ray)
    assert await findings(on_ray, RUN) == await findings(here, RUN)
