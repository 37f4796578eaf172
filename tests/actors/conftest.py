"""Actors are tested with time held by a virtual clock, and leave no task behind."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.virtual_clock import VirtualClockLoop


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], VirtualClockLoop]]:
    return {"virtual_clock": VirtualClockLoop}
