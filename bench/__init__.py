"""Benchmarks of the hub: a real hub on one core, its load on the other, and the figures in build/bench.json."""
