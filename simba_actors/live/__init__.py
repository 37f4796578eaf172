"""Live programs: what a service runs, always with the configuration that was published last."""

from simba_actors.live.calls import LiveCall
from simba_actors.live.program import LiveProgram
from simba_actors.live.variable_aware import VariableAware
from simba_actors.store.channel import Channel, Source
from simba_actors.store.online_examples import OnlineExample
from simba_actors.store.publications import Publication, Served

__all__ = [
    "Channel",
    "LiveCall",
    "LiveProgram",
    "OnlineExample",
    "Publication",
    "Served",
    "Source",
    "VariableAware",
]
