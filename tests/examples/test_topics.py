"""The messages that the examples route."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

from topics import messages


def test_no_message_is_both_trained_on_and_held_out() -> None:
    train, held_out = ({example.message.lower() for example in half} for half in messages())
    assert train
    assert held_out
    assert not train & held_out
