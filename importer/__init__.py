"""Files of readings: what they mean, and their way to a hub as historical batches that are stored exactly once."""
