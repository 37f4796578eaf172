"""Which candidates of a step are dropped midway, and what becomes of their rollouts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import cast

from simba_actors.search.adaptive.policy import AdaptivePolicy
from simba_actors.search.adaptive.racing import Race
from simba_actors.search.adaptive.state import AdaptiveState
from simba_actors.search.adaptive.step_plan import Agenda
from simba_actors.search.evidence import Evidence, Score
from simba_actors.search.model.answers import Answers
from simba_actors.search.model.fitting import Row
from simba_actors.search.model.part_model import PartModel
from simba_actors.search.model.parts import Part
from simba_actors.search.model.similarity import Similarity
from simba_actors.search.plan import Rollout, RolloutKey
from simba_actors.search.policy import Pool, StepPlan

ROWS = tuple(f"row {n}" for n in range(100))
STUDENT = 0
FIRST_ROUND, STEP = 12, 80
"""Rollouts of each candidate in the first round, and of the four candidates in both rounds together."""


class Ruled:
    """A pool of the student and programs that have one rule each."""

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
    """Candidates are right on those shares of their rows, and the student on one half."""
    known = Evidence(scored(STUDENT, 60, 0.5))
    for program, share in right.items():
        known.add(scored(program, FIRST_ROUND, share))
    return known


def second_round(right: Mapping[int, float], known: Evidence | None = None) -> tuple[Rollout, ...]:
    """Of these candidates, by what is known after their first round if not told otherwise."""
    pool = cast("Pool", Ruled(list(right)))
    evidence = known or after_first_round(right)
    agenda = Agenda(STUDENT, {}, ((),) * len(right), (), (), tuple(range(len(ROWS))), STEP, 1.0)
    programs = {program: pool.parts(program) for program in pool.programs()}

    def model() -> PartModel:
        return PartModel(programs, evidence, Similarity(ROWS), Answers([{}] * len(ROWS)), len(ROWS))

    return Race(0, 1, agenda, {}).second_round(list(right), evidence, pool, model)


def rollouts_of(rollouts: Sequence[Rollout]) -> dict[int, int]:
    return dict(Counter(rollout.program for rollout in rollouts))


def test_a_candidate_that_is_clearly_losing_leaves_its_rollouts_to_the_others() -> None:
    left = STEP - 4 * FIRST_ROUND
    assert rollouts_of(second_round({1: 0.6, 2: 0.0, 3: 0.6, 4: 0.0})) == {1: left // 2, 3: left // 2}


def test_candidates_that_may_yet_lead_all_go_on() -> None:
    assert set(rollouts_of(second_round({1: 0.5, 2: 0.6, 3: 0.55, 4: 0.5}))) == {1, 2, 3, 4}


def test_where_all_are_clearly_losing_none_goes_on() -> None:
    assert second_round({1: 0.0, 2: 0.0, 3: 0.0, 4: 0.0}) == ()


def test_nobody_runs_twice_on_a_row() -> None:
    rows = [rollout.example for rollout in second_round({1: 0.9, 2: 0.0}) if rollout.program == 1]
    assert len(rows) == len(set(rows)) > 0
    assert min(rows) >= FIRST_ROUND


def test_there_is_no_third_round() -> None:
    right = {1: 0.6, 2: 0.0, 3: 0.6, 4: 0.0}
    known = after_first_round(right)
    more = second_round(right, known)
    known.add(Score(rollout.key, rollout.program, rollout.example, 1.0) for rollout in more)
    assert more
    assert second_round(right, known) == ()


def test_what_races_saved_goes_to_later_steps() -> None:
    rows = tuple(Row(text, {}) for text in ROWS)
    policy = AdaptivePolicy(rows, 2_000, 16, 10, 4, 0, ("append_a_rule", "recombine"), 1)

    def evaluation(step: int) -> int:
        """Rollouts of a step before which nothing was spent."""
        plan = policy.open_step(policy.initial_state(), step, Evidence(), cast("Pool", Ruled()))
        assert isinstance(plan, StepPlan)
        agenda = AdaptiveState.from_json(plan.state).agenda
        assert agenda is not None
        return agenda.rollouts

    assert evaluation(5) > 1.8 * evaluation(0)
