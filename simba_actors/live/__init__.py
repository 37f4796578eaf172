"""Live programs: what a service runs, always with the configuration that was published last."""

from simba_actors.live.calls import LiveCall
from simba_actors.live.program import LiveProgram
from simba_actors.live.variable_aware import VariableAware
from simba_actors.store.channel import Channel, Source

__all__ = ["Channel", "LiveCall", "LiveProgram", "Source", "VariableAware"]
