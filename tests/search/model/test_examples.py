"""Which examples a text is about, and which call for the answer that a demo gives."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from simba_actors.search.model.answers import Answers
from simba_actors.search.model.examples import MOST_EXAMPLES, Examples, ExampleText
from simba_actors.search.statistics.linear_algebra import Vector
from tests.search.model.texts import examples_of

ROWS = [{"topic": topic, "note": str(n)} for n, topic in enumerate(["rivers", "violins", "rivers", "rivers", "comets"])]


def to_rows(fields: dict[str, str]) -> Vector:
    answers = Answers(ROWS)
    return answers.share_shown(answers.of(fields))


def test_a_demo_is_for_the_rows_that_call_for_its_answer() -> None:
    assert list(to_rows({"text": "the Nile", "topic": "rivers"})) == [1, 0, 1, 1, 0]


def test_an_answer_that_hardly_recurs_says_nothing() -> None:
    assert not to_rows({"topic": "comets", "note": "4"}).any()


def test_a_demo_without_the_labels_is_for_no_row_in_particular() -> None:
    assert not to_rows({"hint": "rivers"}).any()


def test_any_few_rows_in_succession_call_for_all_answers_where_rows_are_evenly_spread() -> None:
    labels = [{"topic": "rivers" if n < 10 else "violins"} for n in range(20)]
    spread = examples_of([""] * 20, labels).evenly_spread("train", range(20))
    assert sorted(spread) == list(range(20))
    assert all((first < 10) != (second < 10) for first, second in pairwise(spread))


def test_rows_whose_answers_do_not_recur_stay_in_order() -> None:
    examples = examples_of([""] * 5, [{"answer": str(n)} for n in range(5)])
    assert examples.evenly_spread("train", [3, 0, 4, 1, 2]) == [3, 0, 4, 1, 2]


def test_a_small_trainset_is_used_whole_and_in_order() -> None:
    assert examples_of(["text"] * 5).train == (0, 1, 2, 3, 4)


def test_a_large_trainset_is_sampled_the_same_each_time() -> None:
    texts = [ExampleText("text", {})] * (3 * MOST_EXAMPLES)
    used = Examples(texts, seed=1).train
    assert len(set(used)) == MOST_EXAMPLES
    assert used == Examples(texts, seed=1).train != Examples(texts, seed=2).train


def test_examples_that_the_search_does_not_use_have_no_position() -> None:
    examples = Examples([ExampleText("text", {})] * (2 * MOST_EXAMPLES))
    positions = examples.positions("train", np.arange(2 * MOST_EXAMPLES))
    assert sorted(positions[positions >= 0]) == list(range(MOST_EXAMPLES))


def test_the_texts_of_a_large_trainset_are_read_only_if_they_are_used() -> None:
    read: list[int] = []

    class Texts(Sequence[ExampleText]):
        def __len__(self) -> int:
            return 100_000

        def __getitem__(self, index: Any) -> Any:
            read.append(index)
            return ExampleText(f"text {index}", {})

    assert Examples(Texts()).similarity.documents == len(read) == MOST_EXAMPLES
