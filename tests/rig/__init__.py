"""The whole system as real processes on loopback, for end-to-end tests and benchmarks."""
