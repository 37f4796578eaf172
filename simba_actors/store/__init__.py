"""The ledger of runs: one SQLite file with what was intended, what was done, and what it gave."""

from simba_actors.store.ownership import Owner
from simba_actors.store.reading import Reader
from simba_actors.store.store import Store

__all__ = ["Owner", "Reader", "Store"]
