"""Live programs: what a service runs, always with the configuration that was published last."""

from simba_actors.live.calls import LiveCall
from simba_actors.live.program import LiveProgram
from simba_actors.live.variable_aware import VariableAware

__all__ = ["LiveCall", "LiveProgram", "VariableAware"]
