"""Crash reports: one log record for each abnormal end."""

from __future__ import annotations

from typing import Any, Protocol

from simba_actors.actors.exits import ExitReason, describe
from simba_actors.actors.process import logger


class Formatted(Protocol):
    """Who knows how its state and its messages may be shown."""

    def format_state(self) -> str: ...

    def format_message(self, message: Any) -> str: ...


def report_crash(name: str, reason: ExitReason, server: Formatted, last_message: Any, restarts: int) -> None:
    """Logs who crashed and why, what it was handling, in which state, and how often it has been restarted before."""
    logger.error(
        "%s crashed: %s\n  last message: %s\n  state: %s\n  restarts so far: %d",
        name,
        describe(reason),
        _formatted(lambda: server.format_message(last_message)),
        _formatted(server.format_state),
        restarts,
        exc_info=reason if isinstance(reason, BaseException) else None,
    )


def _formatted(show: Any) -> str:
    try:
        return show()
    except Exception as error:  # noqa: BLE001 - a report of a crash must not be the next one
        return f"(can't be shown: {describe(error)})"
