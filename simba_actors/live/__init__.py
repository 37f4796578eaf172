"""Live programs: what a service runs, always with the configuration that was published last."""

from simba_actors.live.channel import Channel, Source

__all__ = ["Channel", "Source"]
