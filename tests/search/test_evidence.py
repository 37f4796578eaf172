"""The scores of a run."""

from __future__ import annotations

from simba_actors.search.evidence import Evidence, Score
from simba_actors.search.rollout import ModelSpec, RolloutKey

SAMPLE = Score(RolloutKey(3, "sample", 0), 1, 7, 0.5, ModelSpec(temperature=1.0))
EVALUATION = Score(RolloutKey(3, "evaluate", 0), 1, 8, 1.0)
TEACHER = Score(RolloutKey(3, "sample", 1), 0, 7, 1.0, ModelSpec("teacher"))
VALIDATION = Score(RolloutKey(4, "final", 0), 0, 2, 0.0, split="val")


def test_a_score_that_is_added_twice_counts_once() -> None:
    assert len(Evidence([SAMPLE, SAMPLE])) == 1


def test_samples_of_a_step_are_ordered_by_program_whatever_the_order_of_arrival() -> None:
    assert Evidence([SAMPLE, EVALUATION, TEACHER]).sampled(3) == (TEACHER, SAMPLE)
    assert Evidence([SAMPLE]).sampled(4) == ()


def test_a_copy_does_not_see_later_scores_nor_the_original_those_of_the_copy() -> None:
    evidence = Evidence([SAMPLE])
    copied = evidence.copy()
    evidence.add([EVALUATION])
    copied.add([VALIDATION])
    assert (list(evidence.of(1)), list(copied.of(1))) == ([EVALUATION, SAMPLE], [SAMPLE])
    assert (len(evidence), len(copied)) == (2, 2)
    assert (copied.has_example(1, 8), evidence.has_example(1, 8)) == (False, True)


def test_student_scores_leave_a_teachers_out() -> None:
    scores = Evidence([SAMPLE, EVALUATION, TEACHER, VALIDATION]).student_scores()
    assert [scores.programs[n] for n in scores.program] == [0, 1, 1]
    assert scores.example.tolist() == [2, 8, 7]
    assert scores.validation.tolist() == [True, False, False]
    assert scores.score.tolist() == [0.0, 1.0, 0.5]
    assert scores.resampled.tolist() == [False, False, True]


def test_student_scores_follow_what_is_added() -> None:
    evidence = Evidence([SAMPLE])
    assert len(evidence.student_scores().score) == 1
    evidence.add([EVALUATION])
    assert evidence.student_scores().score.tolist() == [1.0, 0.5]
