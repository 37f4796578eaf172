"""Live programs of these tests wait for their server however busy the machine is."""

from __future__ import annotations

import pytest

from simba_actors.live import remote
from tests.support.waiting import PATIENCE


@pytest.fixture(autouse=True)
def wait_for_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let first calls wait until their server has answered or failed, and not for two seconds only."""
    monkeypatch.setattr(remote, "FIRST_SECONDS", PATIENCE)
