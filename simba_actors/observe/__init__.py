"""Who listens to what happens: a run's events, and what a channel serves."""

from simba_actors.observe.feed import follow_channel, follow_events
from simba_actors.observe.progress import show_progress
from simba_actors.observe.wording import visible

__all__ = ["follow_channel", "follow_events", "show_progress", "visible"]
