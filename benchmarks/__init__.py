"""The loader beside its peers: `python -m benchmarks [NAME...]`. Never part of the tests.

A benchmark is a function `Workload -> Result` in a file of its own, listed in `__main__`.
"""
