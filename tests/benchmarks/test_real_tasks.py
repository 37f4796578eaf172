"""The examples of the tasks that a real model is measured on."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.benchmarks.real_tasks import TASKS


# The task left out needs a package that only the benchmarks have.
@pytest.mark.parametrize("name", ["router", "language"])
def test_no_example_is_both_trained_on_and_held_out(name: str) -> None:
    train, held_out = ({str(example.inputs()).lower() for example in half} for half in TASKS[name].split())
    assert train
    assert held_out
    assert not train & held_out


def test_each_language_has_as_many_messages_to_train_on_and_as_many_held_out() -> None:
    train, held_out = (Counter(example.language for example in half) for half in TASKS["language"].split())
    assert set(train.values()) == {25}
    assert set(held_out.values()) == {32}
    assert set(train) == set(held_out) == {"english", "german", "italian", "spanish"}
