"""Live programs: what a service runs, always with the configuration that was published last."""

from simba_actors.live.program import LiveProgram, VariableAware
from simba_actors.live.router import LiveState
from simba_actors.live.routing import LiveCall

__all__ = ["LiveCall", "LiveProgram", "LiveState", "VariableAware"]
