"""SIMBA as pure functions over plain data: no I/O, no clock, no LM.

Everything here is a value or a function of values. The actors in `simba_actors.team` bring the work that these
functions ask for, and hand back what came of it.
"""
