"""Who listens to a run's events."""

from simba_actors.observe.feed import follow_events
from simba_actors.observe.progress import show_progress

__all__ = ["follow_events", "show_progress"]
