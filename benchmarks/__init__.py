"""Measurements: each module is run with ``python -m benchmarks.NAME`` and ends with one line of JSON."""
