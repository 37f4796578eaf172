"""The adaptive policy."""
