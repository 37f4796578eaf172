"""Observing a run: its events, its progress, what a channel serves, and a run's log in MLflow."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simba_actors.observe.feed import follow_channel, follow_events
    from simba_actors.observe.mlflow import MLflowCallback
    from simba_actors.observe.progress import show_progress

__all__ = ["MLflowCallback", "follow_channel", "follow_events", "show_progress"]

_MODULES = {
    "MLflowCallback": "mlflow",
    "follow_channel": "feed",
    "follow_events": "feed",
    "show_progress": "progress",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is first used: the command line reads a store without DSPy, which takes a second."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
