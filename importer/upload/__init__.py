"""The way of an import's batches over the device protocol: many devices, a bounded number of connections."""
