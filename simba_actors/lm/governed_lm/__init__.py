"""Governed LMs: copies of the user's LMs whose calls wait for their turn and are made again when they fail."""

from simba_actors.lm.governed_lm.copies import default_of_threads, governed
from simba_actors.lm.governed_lm.direct_calls import Twins, govern_while_alive, routed

__all__ = ["Twins", "default_of_threads", "govern_while_alive", "governed", "routed"]
