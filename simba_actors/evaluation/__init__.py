"""Run a configuration on an example: executors, scoring."""
