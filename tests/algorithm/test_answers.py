"""Which examples call for the answer that a demo gives."""

from __future__ import annotations

from simba_actors.algorithm.answers import Answers

ROWS = [{"topic": topic, "note": str(n)} for n, topic in enumerate(["rivers", "violins", "rivers", "rivers", "comets"])]


def test_a_demo_is_for_the_rows_that_call_for_its_answer() -> None:
    assert list(Answers(ROWS).to_rows({"text": "the Nile", "topic": "rivers"})) == [1, 0, 1, 1, 0]


def test_an_answer_that_hardly_recurs_says_nothing() -> None:
    assert not Answers(ROWS).to_rows({"topic": "comets", "note": "4"}).any()


def test_a_demo_without_the_labels_is_for_no_row_in_particular() -> None:
    assert not Answers(ROWS).to_rows({"hint": "rivers"}).any()
