"""Import of files of readings into a hub, as historical batches that are stored exactly once."""
