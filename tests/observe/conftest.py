"""Listeners of these tests hear the last events of a run however busy the machine is."""

from __future__ import annotations

import pytest

from simba_actors import optimizer
from simba_actors.observe.feed import FAREWELL_SECONDS
from tests.support.waiting import PATIENCE


@pytest.fixture(autouse=True)
def long_farewell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a run that stops wait until its listeners have heard everything, and not for half a second only."""
    monkeypatch.setattr(optimizer, "FAREWELL_SECONDS", PATIENCE)


@pytest.fixture
def short_farewell(long_farewell: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a run that stops wait as long as it does for users, because a listener hangs."""
    monkeypatch.setattr(optimizer, "FAREWELL_SECONDS", FAREWELL_SECONDS)
