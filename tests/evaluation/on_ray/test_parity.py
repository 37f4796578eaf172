"""A run of the adaptive policy on Ray finds the same programs as one in this process.

`python -m tests.benchmarks.ray parity` compares all scenarios and worlds.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from simba_actors import RayExecutor
from tests.benchmarks.ray import RUN, of_world
from tests.support.runs import findings, finish

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_address")]


async def test_a_planted_world_ends_in_the_same_programs_on_ray(tmp_path: Path) -> None:
    here = of_world("pipeline", tmp_path / "here.db")
    on_ray = replace(of_world("pipeline", tmp_path / "ray.db"), executor=RayExecutor(workers=2))
    await finish(here)
    await finish(on_ray)
    assert await findings(on_ray, RUN) == await findings(here, RUN)
