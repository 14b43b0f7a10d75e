"""What proves the hub's numbers: a real hub on one core, a load from the other, and the figures in build/bench.json."""
