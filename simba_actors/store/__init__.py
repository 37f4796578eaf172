"""The ledger of runs: one SQLite file with what was intended, what was done, and what it gave.

The writer is `simba_actors.store.store.Store`, which reading alone does not import.
"""

from simba_actors.store.ownership import Owner
from simba_actors.store.reading import Reader

__all__ = ["Owner", "Reader"]
