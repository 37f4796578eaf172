"""Connections to other processes: certificates, gRPC, and how a call is refused. Knows neither DSPy nor SIMBA."""
