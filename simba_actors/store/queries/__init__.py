"""Queries of displays: what the command line, the dashboard and `Optimizer.status` show of a run."""
