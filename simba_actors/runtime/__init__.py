"""Threads, loop fairness and exception isolation. Knows neither DSPy nor SIMBA."""
