"""Values that have no JSON form become text that is the same in every process."""

from __future__ import annotations

from typing import Any

import pytest

from simba_actors.programs import to_json_value
from tests.support.quiz import exact


class Handle:
    def __init__(self) -> None:
        self.password = "hunter2"  # noqa: S105


@pytest.mark.parametrize(
    ("value", "text"),
    [(Handle(), "<tests.programs.test_values.Handle object>"), (exact, "<function exact>")],
    ids=["object", "function"],
)
def test_a_text_tells_no_address_and_no_attributes(value: Any, text: str) -> None:
    assert to_json_value([value]) == [text]
