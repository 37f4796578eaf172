"""Live programs: what a service runs, always with the configuration that was published last."""

from simba_actors.live.calls import LiveCall
from simba_actors.live.program import LiveProgram, VariableAware
from simba_actors.live.router import LiveState

__all__ = ["LiveCall", "LiveProgram", "LiveState", "VariableAware"]
