"""Benchmarks: ratios against bare clients within one run. `make bench` runs them, docs/benchmarks.md explains them."""
