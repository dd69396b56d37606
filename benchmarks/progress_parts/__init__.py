"""The parts of `benchmarks/progress.py`."""
