"""Configurations as values."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from simba_actors.programs import Configuration
from simba_actors.programs.parts import assemble, parts_of
from simba_actors.search.rollout import JSON

CONFIGURATION = Configuration.of({"answer": ("Answer.\nBe brief.", [{"question": "1+1?", "answer": "2"}])})


def test_equal_configurations_have_one_digest_in_whatever_order_they_were_made() -> None:
    turned = Configuration(dict(reversed(list(CONFIGURATION.values.items()))))
    assert (turned, hash(turned), turned.digest) == (CONFIGURATION, hash(CONFIGURATION), CONFIGURATION.digest)


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        CONFIGURATION.values["answer.instructions"] = "?"  # pyright: ignore[reportIndexIssue]


def test_half_of_a_surrogate_pair_in_instructions_is_escaped() -> None:
    changed = CONFIGURATION.with_instructions("answer", "Smile \ud83d.")
    assert changed.instructions("answer") == "Smile \\ud83d."
    changed.check_json()


def test_what_is_read_from_a_configuration_is_a_copy() -> None:
    configuration: Any = Configuration(CONFIGURATION.values)
    configuration.values["answer.demos"][0]["answer"] = "3"
    configuration.demos("answer")[0]["answer"] = "3"
    configuration.to_json()["answer.demos"].clear()
    assert configuration.demos("answer") == ({"question": "1+1?", "answer": "2"},)


def test_what_a_configuration_is_made_from_can_be_changed_afterwards() -> None:
    tags: list[JSON] = ["a"]
    configuration = Configuration.of({"answer": ("Answer.", [{"tags": tags}])})
    tags.append("b")
    assert configuration.demos("answer") == ({"tags": ["a"]},)


def test_a_diff_shows_lines_of_instructions_and_whole_demos() -> None:
    changed = CONFIGURATION.with_instructions("answer", "Answer.\nBe exact.").with_demos("answer", [])
    assert changed.diff(CONFIGURATION) == "\n".join(
        [
            "--- answer.instructions",
            "+++ answer.instructions",
            "@@ -1,2 +1,2 @@",
            " Answer.",
            "-Be brief.",
            "+Be exact.",
            "--- answer.demos",
            "+++ answer.demos",
            "@@ -1 +0,0 @@",
            '-{"question":"1+1?","answer":"2"}',
        ]
    )


def test_equal_configurations_have_no_diff() -> None:
    assert not CONFIGURATION.diff(Configuration.from_json(CONFIGURATION.to_json()))


def test_work_grows_in_proportion_to_the_number_of_predictors() -> None:
    """A run makes configurations on the host's event loop."""
    small, large = (
        Configuration.of({f"predictor {n}": ("Answer.", [{"answer": "2"}]) for n in range(count)}) for count in (20, 80)
    )
    assert calls_of(lambda: reassembled(large)) < 5 * calls_of(lambda: reassembled(small))
    assert calls_of(lambda: large.without_demos([0])) < 5 * calls_of(lambda: small.without_demos([0]))


def reassembled(configuration: Configuration) -> Configuration:
    return assemble(parts_of(configuration, configuration), configuration)


def calls_of(work: Callable[[], object]) -> int:
    """Return how many functions of Python's `work` calls."""
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls
