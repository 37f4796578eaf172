"""Channels for live programs on other hosts, over HTTP and gRPC."""
