"""Rounds of finals, and the winner."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from simba_actors.search.adaptive.finals import FINALISTS, Finals, most_rollouts
from simba_actors.search.evidence import Evidence, Score
from simba_actors.search.model.part_model import PartModel
from simba_actors.search.rollout import STUDENT, Rollout, RolloutKey
from tests.search.model.test_part_model import PROGRAMS, ROWS, evidence, examples_of, model_of

FINALS = Finals(valset=0, rollouts=60)


def next_round(known: Evidence, rounds_before: int = 0, finals: Finals = FINALS) -> tuple[Rollout, ...]:
    return finals.next_round(model_of(known), known, lambda program: range(1_000), rounds_before)


def after(rounds: int) -> Evidence:
    known = evidence()
    for _ in range(rounds):
        planned = next_round(known)
        known.add(Score(rollout.key, rollout.program, rollout.example, 1.0) for rollout in planned)
    return known


def validated(*rounds: dict[int, list[float]]) -> Evidence:
    """Return evidence with these scores on the valset, by program for each round."""
    known = evidence()
    for number, scores in enumerate(rounds):
        planned = [(program, score) for program, own in scores.items() for score in own]
        known.add(
            Score(RolloutKey.of_final(number, index), program, 10 * number + index, score)
            for index, (program, score) in enumerate(planned)
        )
    return known


def programs_of(rollouts: Sequence[Rollout]) -> set[int]:
    return {rollout.program for rollout in rollouts}


@pytest.mark.parametrize("rounds", range(len(FINALISTS)))
def test_each_round_has_fewer_programs(rounds: int) -> None:
    assert len(programs_of(next_round(after(rounds)))) == FINALISTS[rounds]


@pytest.mark.parametrize("rounds", range(len(FINALISTS)))
def test_the_student_is_in_each_round(rounds: int) -> None:
    assert STUDENT in programs_of(next_round(after(rounds)))


def without_effects(rollouts: int = 160) -> Evidence:
    """Return evidence of programs that are all right on the same half of the examples."""
    return Evidence(
        Score(RolloutKey(0, "evaluate", program * 1_000 + n), program, n % 40, float(n % 40 < 20))
        for program in PROGRAMS
        for n in range(rollouts)
    )


def test_there_are_no_finals_if_they_can_name_no_other_winner_than_the_student() -> None:
    known = without_effects()
    assert next_round(known) == ()
    assert FINALS.ranking(model_of(known), known)[0][0] == STUDENT


def test_a_valset_scores_the_winner_even_if_it_can_only_be_the_student() -> None:
    assert next_round(without_effects(), finals=Finals(valset=20, rollouts=60))


@pytest.mark.parametrize("size", [2, 3, 5])
def test_finals_on_a_small_valset_have_fewer_programs(size: int) -> None:
    finals = Finals(valset=size, rollouts=most_rollouts(size))
    planned = next_round(after(0), finals=finals)
    assert {rollout.split for rollout in planned} == {"val"}
    assert STUDENT in programs_of(planned)
    assert len(programs_of(planned)) == len(planned) == size


def test_a_program_with_fewer_rollouts_than_finalists_make_in_finals_does_not_win() -> None:
    known = evidence()
    newcomer = max(PROGRAMS) + 1
    programs = {**PROGRAMS, newcomer: PROGRAMS[5]}
    known.add(Score(RolloutKey(1, "evaluate", n), newcomer, n, 1.0) for n in range(2))
    known.add(Score(RolloutKey.of_final(0, n), 1 + n % 2, n, 0.0) for n in range(8))
    model = PartModel(programs, known.student_scores(), examples_of(ROWS))
    assert newcomer not in dict(FINALS.ranking(model, known))


def test_a_program_that_has_run_on_all_examples_may_win_without_finals() -> None:
    known = evidence()
    known.add(Score(RolloutKey.of_final(0, n), 2, n, 0.0) for n in range(8))
    assert FINALS.ranking(model_of(known), known)[0][0] == 5


def test_there_is_no_round_after_the_last() -> None:
    assert next_round(after(len(FINALISTS))) == ()


def test_a_program_that_stays_in_for_all_rounds_runs_on_each_fresh_example() -> None:
    finals = Finals(valset=0, rollouts=most_rollouts(60))
    rounds = [next_round(after(number), finals=finals) for number in range(len(FINALISTS))]
    assert sum(len(planned) // len(programs_of(planned)) for planned in rounds) == 60


def test_finals_before_the_search_continued_do_not_count() -> None:
    assert programs_of(next_round(after(2), rounds_before=2)) == set(PROGRAMS)


def test_rollouts_of_later_finals_have_keys_of_their_own() -> None:
    known = after(2)
    keys: list[RolloutKey] = [score.key for program in PROGRAMS for score in known.of(program, "final")]
    assert {rollout.key for rollout in next_round(known, rounds_before=2)}.isdisjoint(keys)


def ranked_on_valset(known: Evidence) -> list[int]:
    return [program for program, _ in Finals(valset=20, rollouts=60).ranking(model_of(known), known)]


def estimated_best(known: Evidence) -> int:
    return next(iter(Finals(valset=20, rollouts=60)._estimates(model_of(known), known)))


def test_on_a_valset_programs_that_stay_in_for_longer_come_first() -> None:
    better, worse = [program for program in PROGRAMS if program != STUDENT][:2]
    known = validated({STUDENT: [0.0], better: [0.5], worse: [1.0]}, {STUDENT: [0.0], better: [0.5]})
    ranked = ranked_on_valset(known)
    assert ranked.index(better) < ranked.index(worse)


def test_programs_with_equal_scores_on_a_valset_are_ordered_by_the_model() -> None:
    known = validated({STUDENT: [0.0], 1: [1.0], 3: [1.0], 5: [1.0]})
    assert estimated_best(known) == max(PROGRAMS, key=model_of(known).qualities.__getitem__) == 5


def test_a_round_that_the_budget_ended_early_puts_the_student_before_no_better_program() -> None:
    better = next(program for program in PROGRAMS if program != STUDENT)
    known = validated({STUDENT: [0.0] * 5, better: [1.0] * 5}, {STUDENT: [0.0] * 5, better: [1.0] * 4})
    assert estimated_best(known) == better
    alone = validated({STUDENT: [0.0] * 5, better: [1.0] * 5}, {STUDENT: [0.0] * 5})
    assert estimated_best(alone) == better


def test_finals_on_a_valset_after_the_search_continued_have_new_programs() -> None:
    known = validated({STUDENT: [0.0], next(program for program in PROGRAMS if program != STUDENT): [1.0]})
    finals = Finals(valset=20, rollouts=60)
    assert programs_of(next_round(known, rounds_before=1, finals=finals)) == set(PROGRAMS)
