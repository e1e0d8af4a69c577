"""Benchmarks run on request only: ``python tests/benchmarks/run.py``."""

collect_ignore_glob = ["*.py"]
