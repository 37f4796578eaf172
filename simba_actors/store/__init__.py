"""The ledger of runs: one SQLite file that knows what was intended, what was done, and what came of it."""
