"""Who listens to a run's events."""

from simba_actors.observe.progress import show_progress

__all__ = ["show_progress"]
