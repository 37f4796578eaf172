"""How many steps the adaptive policy has open at a time, and what it knows of them when it plans another."""

from __future__ import annotations

import pytest

from simba_actors.search.adaptive.policy import AdaptivePolicy
from simba_actors.search.adaptive.schedule import steps_at_once
from simba_actors.search.adaptive.state import AdaptiveState
from simba_actors.search.evidence import Evidence
from tests.search.adaptive.test_policy import POOL, policy


def concurrent(concurrency: int, rollouts: int = 5_000) -> AdaptivePolicy:
    plain = policy(rollouts)
    return AdaptivePolicy(
        plain.settings, plain.train_examples, rollouts, plain.strategies, predictors=1, concurrency=concurrency
    )


@pytest.mark.parametrize(("concurrency", "expected"), [(1, 1), (8, 1), (16, 2), (32, 3), (64, 5), (256, 5)])
def test_more_steps_are_open_where_more_rollouts_are_in_flight(concurrency: int, expected: int) -> None:
    assert steps_at_once(concurrency, rollouts_per_step=179, search=4_300) == expected


@pytest.mark.parametrize(("search", "expected"), [(900, 1), (1_500, 2), (2_000, 3)])
def test_fewer_steps_are_open_in_a_run_that_has_few_rollouts(search: int, expected: int) -> None:
    assert steps_at_once(256, rollouts_per_step=100, search=search) == expected


@pytest.mark.parametrize(("steps", "expected"), [(1, 1), (7, 1), (8, 2), (12, 3)])
def test_at_most_a_quarter_of_a_runs_steps_is_open(steps: int, expected: int) -> None:
    assert steps_at_once(10_000, rollouts_per_step=1_000, search=1_000 * steps) == expected


def test_the_number_of_open_steps_is_the_one_that_the_run_started_with() -> None:
    assert concurrent(1).steps_at_once(concurrent(256).initial_state(), closed=24) > 1
    assert concurrent(256).steps_at_once(concurrent(1).initial_state(), closed=24) == 1


def test_a_run_opens_one_more_step_at_a_time_for_each_that_has_closed() -> None:
    started = concurrent(256)
    state = started.initial_state()
    most = started.steps_at_once(state, closed=24)
    assert most == 5
    assert [started.steps_at_once(state, closed) for closed in range(7)] == [1, 2, 3, 4, 5, 5, 5]


def test_open_steps_do_not_promise_more_rollouts_than_the_search_has() -> None:
    made = concurrent(64, rollouts=400)
    opened = closed = made.initial_state()
    steps = 0
    while (plan := made.open_step(opened, closed, steps, Evidence(), POOL)) is not None:
        opened, steps = plan.state, steps + 1
    promised = AdaptiveState.from_json(opened).open_steps
    assert len(promised) == steps > 5
    assert 200 < sum(step.rollouts for step in promised) <= 400


def test_each_open_step_has_examples_and_programs_of_its_own() -> None:
    made = concurrent(64)
    state = made.initial_state()
    first = made.open_step(state, state, 0, Evidence(), POOL)
    assert first is not None
    second = made.open_step(first.state, state, 1, Evidence(), POOL)
    assert second is not None
    assert set(first.batch).isdisjoint(second.batch)
    candidates = AdaptiveState.from_json(first.state).candidate_plan
    assert candidates is not None
    assert second.first_program == first.first_program + candidates.most_candidates
