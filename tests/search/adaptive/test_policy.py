"""What the adaptive policy plans and reports at the limits: with few rollouts, or with none."""

from __future__ import annotations

from typing import cast

import pytest

from simba_actors.search.adaptive.policy import AdaptivePolicy
from simba_actors.search.adaptive.schedule import LEAST_STEP, least_rollouts
from simba_actors.search.adaptive.state import AdaptiveState
from simba_actors.search.evidence import Evidence
from simba_actors.search.model.examples import ExampleText
from simba_actors.search.model.parts import Part
from simba_actors.search.policy import Pool
from simba_actors.search.rollout import STUDENT
from simba_actors.search.settings import SearchSettings


class StudentAlone:
    """A pool with only the student."""

    def programs(self) -> list[int]:
        return [STUDENT]

    def parts(self, program: int) -> tuple[Part, ...]:
        return ()

    def free_parts(self) -> tuple[Part, ...]:
        return ()

    def demos(self, program: int) -> int:
        return 0


POOL = cast("Pool", StudentAlone())


def policy(rollouts: int, bsize: int = 4, *more_strategies: str) -> AdaptivePolicy:
    settings = SearchSettings(bsize=bsize, num_candidates=6, max_steps=24, max_demos=4)
    examples = tuple(ExampleText(f"example {n}", {}) for n in range(40))
    strategies = ("append_a_demo", "recombine", *more_strategies)
    return AdaptivePolicy(settings, examples, rollouts, strategies, predictors=1)


@pytest.mark.parametrize("bsize", [1, 4, 16, 32, 100])
def test_the_least_rollouts_are_enough_for_a_step(bsize: int) -> None:
    made = policy(least_rollouts(bsize), bsize)
    assert made.open_step(made.initial_state(), made.initial_state(), 0, Evidence(), POOL) is not None


def test_a_step_leaves_rollouts_for_its_candidates() -> None:
    made = policy(least_rollouts(1), bsize=1)
    plan = made.open_step(made.initial_state(), made.initial_state(), 0, Evidence(), POOL)
    assert plan is not None
    candidates = AdaptiveState.from_json(plan.state).candidate_plan
    assert candidates is not None
    assert (len(plan.rollouts), candidates.rollouts) == (LEAST_STEP * 2 // 3, LEAST_STEP // 3)


def test_no_program_has_a_score_without_a_rollout() -> None:
    made = policy(1_000)
    assert made.ranking(made.initial_state(), Evidence(), POOL) == []
    assert made.final_rollouts(made.initial_state(), Evidence(), POOL) == ()


def test_later_steps_get_the_rollouts_that_earlier_ones_left() -> None:
    made = policy(2_000)

    def evaluation(step: int) -> int:
        """Return the number of rollouts of a step before which nothing was spent."""
        plan = made.open_step(made.initial_state(), made.initial_state(), step, Evidence(), POOL)
        assert plan is not None
        candidates = AdaptiveState.from_json(plan.state).candidate_plan
        assert candidates is not None
        return candidates.rollouts

    assert evaluation(12) > 1.8 * evaluation(0)


@pytest.mark.parametrize("more_strategies", [(), ("learn_from_failures",)])
def test_only_strategies_that_call_lms_take_rollouts_of_the_search(more_strategies: tuple[str, ...]) -> None:
    made = policy(1_000, 4, *more_strategies)
    plan = made.open_step(made.initial_state(), made.initial_state(), 0, Evidence(), POOL)
    assert plan is not None
    state = AdaptiveState.from_json(plan.state)
    assert state.candidate_plan is not None
    rollouts = len(plan.rollouts) + state.candidate_plan.rollouts
    assert (state.open_steps[0].rollouts > rollouts) is bool(more_strategies)
