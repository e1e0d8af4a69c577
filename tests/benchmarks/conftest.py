"""Benchmarks run only on request: ``python tests/benchmarks/run.py``."""

collect_ignore_glob = ["*.py"]
