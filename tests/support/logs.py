"""What one part of the package has logged: others may log at any time, such as threads that earlier tests have left."""

from __future__ import annotations

import logging

import pytest


def logged_by(caplog: pytest.LogCaptureFixture, name: str, level: int = logging.WARNING) -> list[str]:
    """Return the messages of the logger of that name and of those below it, from a level on."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= level and f"{record.name}.".startswith(f"{name}.")
    ]
