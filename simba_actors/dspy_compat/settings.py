"""DSPy's settings for code that runs separately from its caller."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dspy
from dspy.dsp.utils.settings import DEFAULT_CONFIG, thread_local_overrides

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
"""Settings that belong to the running code itself, not to code that it calls in another process."""

TRACE_SIZE = 10_000
"""Maximum number of predictor calls in a trace of our own: DSPy's default."""


def own_trace(trace: list[Any]) -> dict[str, Any]:
    """Return the settings with which DSPy adds predictor calls to `trace`.

    A host may have set `max_trace_size=0`, so that DSPy does not keep the calls of a long-lived service.
    """
    return {"trace": trace, "max_trace_size": TRACE_SIZE}


def add_to_trace(calls: Sequence[Any]) -> None:
    """Add predictor calls to the current trace, which keeps the newest `max_trace_size`, as DSPy's predictors do."""
    settings: Any = dspy.settings
    trace, size = settings.trace, settings.max_trace_size
    if trace is None or not calls or size <= 0:
        return
    trace.extend(calls)
    del trace[: max(0, len(trace) - size)]


def inherited_settings() -> dict[str, Any]:
    """Return the current settings, without those that belong to the caller: its modules, usage tracker and stream."""
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


def has_lm_of_context() -> bool:
    """Return whether `dspy.context` has set an LM for this code. Threads that code starts do not inherit it."""
    return thread_local_overrides.get().get("lm") is not None
