"""Which examples call for the answer that a demo gives."""

from __future__ import annotations

from itertools import pairwise

from simba_actors.search.model.answers import Answers

ROWS = [{"topic": topic, "note": str(n)} for n, topic in enumerate(["rivers", "violins", "rivers", "rivers", "comets"])]


def test_a_demo_is_for_the_rows_that_call_for_its_answer() -> None:
    assert list(Answers(ROWS).to_rows({"text": "the Nile", "topic": "rivers"})) == [1, 0, 1, 1, 0]


def test_an_answer_that_hardly_recurs_says_nothing() -> None:
    assert not Answers(ROWS).to_rows({"topic": "comets", "note": "4"}).any()


def test_a_demo_without_the_labels_is_for_no_row_in_particular() -> None:
    assert not Answers(ROWS).to_rows({"hint": "rivers"}).any()


def test_any_few_rows_in_succession_call_for_all_answers_where_rows_are_evenly_spread() -> None:
    answers = Answers([{"topic": "rivers" if n < 10 else "violins"} for n in range(20)])
    spread = answers.evenly_spread(range(20))
    assert sorted(spread) == list(range(20))
    assert all((first < 10) != (second < 10) for first, second in pairwise(spread))


def test_rows_whose_answers_do_not_recur_stay_in_order() -> None:
    assert Answers([{"answer": str(n)} for n in range(5)]).evenly_spread([3, 0, 4, 1, 2]) == [3, 0, 4, 1, 2]
