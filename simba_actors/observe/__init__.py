"""Who listens to a run's events."""
