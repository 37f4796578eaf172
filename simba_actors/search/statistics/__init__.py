"""Intervals, trends and sequential tests."""
