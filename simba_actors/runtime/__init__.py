"""Threads, loop fairness, exception isolation, logs. Knows neither DSPy nor SIMBA."""
