"""Live programs of these tests wait for their server however busy the machine is."""

from __future__ import annotations

import pytest

from simba_actors.live import grpc_client, http_client, remote
from tests.support.waiting import PATIENCE


@pytest.fixture(autouse=True)
def wait_for_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let first calls wait until their server has answered or failed, and let it take its time for that."""
    monkeypatch.setattr(remote, "FIRST_SECONDS", PATIENCE)
    for client in (grpc_client, http_client):
        monkeypatch.setattr(client, "CONNECT_SECONDS", PATIENCE)
