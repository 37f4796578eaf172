"""A model's size has a bound, however long the run is."""

from __future__ import annotations

import json

import pytest

from simba_actors.search.evidence import Evidence, Score
from simba_actors.search.model import fitting
from simba_actors.search.model.fitting import Fitting
from simba_actors.search.model.part_model import PartModel
from simba_actors.search.model.parts import Part
from simba_actors.search.model.warm_start import WarmStart
from simba_actors.search.rollout import STUDENT, RolloutKey
from tests.search.model.texts import examples_of

MOST = 64
ROLLOUTS_PER_STEP = 4
SERVED = 41
"""A program of the middle of the run."""


class LongRun:
    """A run whose steps make two programs each, with two scores and a part of its own for each.

    It is its own pool.
    """

    def __init__(self, steps: int) -> None:
        self.evidence = Evidence([Score(RolloutKey(0, "sample", n), STUDENT, n, 0.0) for n in range(4)])
        self.numbers = range(1 + 2 * steps)
        for step in range(steps):
            for position in range(ROLLOUTS_PER_STEP):
                program = 1 + 2 * step + position // 2
                key = RolloutKey(step, "evaluate", position)
                self.evidence.add([Score(key, program, position, float(program % 3 == 0))])

    def programs(self) -> list[int]:
        return list(self.numbers)

    def parts(self, program: int) -> tuple[Part, ...]:
        return (Part(f"rule {program}", "self", "rule", ""),) if program else ()

    def free_parts(self) -> tuple[Part, ...]:
        return ()

    def demos(self, program: int) -> int:
        return 0


@pytest.fixture(autouse=True)
def few_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "MOST_SCORES", MOST)


def models_of(steps: int) -> list[PartModel]:
    """Return the model of each of these numbers of steps, fitted from the one before."""
    models: list[PartModel] = []
    fits = Fitting(examples_of([f"example {n}" for n in range(8)]), ROLLOUTS_PER_STEP)
    for count in range(1, steps + 1):
        run, start = LongRun(count), models[-1].warm_start() if models else WarmStart()
        models.append(fits.model(run, run.evidence, start))
    return models


def test_a_long_runs_models_have_a_bounded_number_of_scores_programs_and_known_parts() -> None:
    models = models_of(60)
    for model in models:
        assert len(model.posterior.log_odds) <= MOST
        assert len(model.programs) <= MOST
        assert len(model.warm_start().parts) <= MOST
    assert len(json.dumps(models[-1].warm_start().to_json())) <= 1.1 * len(
        json.dumps(models[20].warm_start().to_json())
    )


def test_a_long_runs_model_has_the_student_the_first_programs_and_the_latest() -> None:
    programs = set(models_of(60)[-1].programs)
    assert {STUDENT, 1, 2, 119, 120} <= programs
    assert SERVED not in programs


def test_a_long_runs_model_has_the_incumbent_with_its_scores() -> None:
    run = LongRun(60)
    fits = Fitting(examples_of([f"example {n}" for n in range(8)]), ROLLOUTS_PER_STEP)
    model = fits.model(run, run.evidence, WarmStart(), SERVED)
    assert SERVED in model.programs
    assert run.evidence.student_scores(MOST, SERVED).programs.count(SERVED) == 1


def test_a_short_runs_model_has_all_programs() -> None:
    assert len(models_of(10)[-1].programs) == 21


def test_a_fit_has_the_scores_of_several_steps_however_large_they_are() -> None:
    run = LongRun(60)
    fits = Fitting(examples_of([f"example {n}" for n in range(8)]), rollouts_per_step=MOST)
    assert len(fits.model(run, run.evidence, WarmStart()).posterior.log_odds) == len(run.evidence)
