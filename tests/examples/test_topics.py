"""The messages that the examples route."""

from __future__ import annotations

from tests.support.router import halves


def test_no_message_is_both_trained_on_and_held_out() -> None:
    train, held_out = ({message.lower() for message in half} for half in halves())
    assert train
    assert held_out
    assert not train & held_out
