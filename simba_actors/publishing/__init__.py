"""Channels: published versions of a program, their history, and canaries."""
