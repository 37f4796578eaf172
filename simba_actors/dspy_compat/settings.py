"""DSPy's settings for code that runs separately from its caller."""

from __future__ import annotations

from typing import Any

import dspy
from dspy.dsp.utils.settings import DEFAULT_CONFIG

CALLERS = frozenset(
    {
        "branch_idx",
        "caller_modules",
        "caller_predict",
        "send_stream",
        "stream_listeners",
        "trace",
        "usage_tracker",
    }
)
"""Settings that belong to the code that runs, and not to what it calls elsewhere."""


def inherited_settings() -> dict[str, Any]:
    """Return the current settings, without what belongs to the caller: its modules, count of usage and stream."""
    settings: Any = dspy.settings
    no_listeners: list[Any] = []
    own = {"caller_modules": None, "usage_tracker": None, "send_stream": None, "stream_listeners": no_listeners}
    return {**settings.copy(), **own}


def changed_settings() -> dict[str, Any]:
    """Return the current settings that are not DSPy's defaults, for code that runs in another process."""
    settings: Any = dspy.settings
    defaults: dict[str, Any] = dict(DEFAULT_CONFIG)
    return {
        name: value
        for name, value in settings.copy().items()
        if name not in CALLERS and (name not in defaults or value != defaults[name])
    }
