"""Queries of a store, by subject. Each is a plain function of an `sqlite3.Connection`, for `Reader.ask`."""
