"""Probes and lifecycle hooks: exec, HTTP, TCP, gRPC."""
