"""Planted worlds can be searched without an LM."""

from __future__ import annotations

import pytest

from tests.benchmarks.overlap import PlantedPrograms, gain_of
from tests.benchmarks.worlds.families import world_of
from tests.benchmarks.worlds.tasks import student_of, true_quality


@pytest.mark.parametrize("family", ["few_topics", "pipeline", "labels"])
def test_the_student_is_as_good_as_in_a_run_with_an_lm(family: str) -> None:
    world = world_of(family, 0)
    assert PlantedPrograms(world).quality(0) == pytest.approx(true_quality(world, student_of(world)))


def test_a_search_without_an_lm_finds_a_better_program() -> None:
    assert gain_of("few_topics", 0, 400, 2) > 0.3
