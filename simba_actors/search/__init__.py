"""SIMBA as pure functions over plain data: no I/O, no clock, no LM.

The actors in `simba_actors.team` do the work that these functions plan and pass the results back.
"""
