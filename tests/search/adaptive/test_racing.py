"""Which candidates of a step are dropped midway, and who gets their rollouts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import cast

from simba_actors.search.adaptive.policy import AdaptivePolicy
from simba_actors.search.adaptive.racing import Race
from simba_actors.search.adaptive.state import AdaptiveState, CandidatePlan
from simba_actors.search.evidence import Evidence, Score
from simba_actors.search.model.examples import ExampleText
from simba_actors.search.model.part_model import PartModel
from simba_actors.search.model.parts import Part
from simba_actors.search.plan import Rollout, RolloutKey
from simba_actors.search.policy import STUDENT, Pool, StepPlan
from simba_actors.search.settings import SearchSettings
from tests.search.model.texts import examples_of

EXAMPLES = tuple(f"example {n}" for n in range(100))
FIRST_ROUND, STEP = 12, 80
"""Rollouts of each candidate in the first round, and of all candidates in both rounds together."""


class Ruled:
    """A pool of the student and of programs with one rule each."""

    def __init__(self, candidates: Sequence[int] = ()) -> None:
        self.rules = {n: Part(f"rule {n}", "self", "rule", f"advice number {n}") for n in candidates}

    def programs(self) -> list[int]:
        return [STUDENT, *self.rules]

    def parts(self, program: int) -> tuple[Part, ...]:
        return () if program == STUDENT else (self.rules[program],)

    def settings(self) -> tuple[Part, ...]:
        return ()

    def demos(self, program: int) -> int:
        return 0


def scored(program: int, count: int, right: float) -> list[Score]:
    keys = [RolloutKey(0, "evaluate", program * 10_000 + n) for n in range(count)]
    return [Score(key, program, n, float(n % FIRST_ROUND < right * FIRST_ROUND)) for n, key in enumerate(keys)]


def after_first_round(right: Mapping[int, float]) -> Evidence:
    """Return scores by which each candidate is right on its share of the examples, and the student on half of them."""
    known = Evidence(scored(STUDENT, 60, 0.5))
    for program, share in right.items():
        known.add(scored(program, FIRST_ROUND, share))
    return known


def second_round(right: Mapping[int, float], known: Evidence | None = None) -> tuple[Rollout, ...]:
    """Plan the second round of these candidates, by default with the scores of their first round."""
    pool = cast("Pool", Ruled(list(right)))
    evidence = known or after_first_round(right)
    plan = CandidatePlan(STUDENT, {}, ((),) * len(right), (), (), tuple(range(len(EXAMPLES))), STEP, 1.0)
    programs = {program: pool.parts(program) for program in pool.programs()}

    def model() -> PartModel:
        return PartModel(programs, evidence, examples_of(EXAMPLES))

    return Race(0, 1, plan, {}).second_round(list(right), evidence, pool, model)


def rollouts_of(rollouts: Sequence[Rollout]) -> dict[int, int]:
    return dict(Counter(rollout.program for rollout in rollouts))


def test_a_candidate_that_is_clearly_losing_leaves_its_rollouts_to_the_others() -> None:
    left = STEP - 4 * FIRST_ROUND
    assert rollouts_of(second_round({1: 0.6, 2: 0.0, 3: 0.6, 4: 0.0})) == {1: left // 2, 3: left // 2}


def test_all_candidates_that_may_yet_lead_stay_in() -> None:
    assert set(rollouts_of(second_round({1: 0.5, 2: 0.6, 3: 0.55, 4: 0.5}))) == {1, 2, 3, 4}


def test_if_all_are_clearly_losing_none_stays_in() -> None:
    assert second_round({1: 0.0, 2: 0.0, 3: 0.0, 4: 0.0}) == ()


def test_no_candidate_runs_twice_on_an_example() -> None:
    examples = [rollout.example for rollout in second_round({1: 0.9, 2: 0.0}) if rollout.program == 1]
    assert len(examples) == len(set(examples)) > 0
    assert min(examples) >= FIRST_ROUND


def test_there_is_no_third_round() -> None:
    right = {1: 0.6, 2: 0.0, 3: 0.6, 4: 0.0}
    known = after_first_round(right)
    more = second_round(right, known)
    known.add(Score(rollout.key, rollout.program, rollout.example, 1.0) for rollout in more)
    assert more
    assert second_round(right, known) == ()


def test_later_steps_get_the_rollouts_that_races_saved() -> None:
    settings = SearchSettings(bsize=16, num_candidates=6, max_steps=10, max_demos=4)
    examples = tuple(ExampleText(text, {}) for text in EXAMPLES)
    policy = AdaptivePolicy(settings, examples, 2_000, ("append_a_rule", "recombine"), predictors=1)

    def evaluation(step: int) -> int:
        """Return the rollouts of a step before which nothing was spent."""
        plan = policy.open_step(policy.initial_state(), step, Evidence(), cast("Pool", Ruled()))
        assert isinstance(plan, StepPlan)
        candidates = AdaptiveState.from_json(plan.state).candidates
        assert candidates is not None
        return candidates.rollouts

    assert evaluation(5) > 1.8 * evaluation(0)
