"""DSPy's settings for code that runs separately from its caller."""

from __future__ import annotations

from typing import Any

import dspy


def inherited_settings() -> dict[str, Any]:
    """Return the current settings, without what belongs to the caller: its modules, and its count of usage."""
    settings: Any = dspy.settings
    return {**settings.copy(), "caller_modules": None, "usage_tracker": None}
