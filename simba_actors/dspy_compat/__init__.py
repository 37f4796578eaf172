"""Everything that uses DSPy beyond its documented API."""
