"""The parts of `benchmarks/sources.py`, one module a source."""
