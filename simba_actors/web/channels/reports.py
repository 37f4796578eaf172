"""Scores that live programs on other hosts report."""

from __future__ import annotations

from typing import Any

from simba_actors.errors import ConfigError
from simba_actors.evaluation.scoring import is_score
from simba_actors.live.calls import CallId
from simba_actors.live.recording import Score

LARGEST_REPORT = 1024 * 1024
"""Maximum size of a batch of scores in bytes. A larger one is refused."""


def score(channel: str, call: Any, value: Any) -> Score:
    """Return a reported score. Raise ValueError or TypeError if the id or the value is not valid."""
    if not is_score(value):
        raise ConfigError(f"score={value!r:.80} is not a number between -1e18 and 1e18")
    return Score(channel, CallId.parse(call), float(value))
