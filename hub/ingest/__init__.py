"""Ingest: from a frame of a device to an entry submitted to the journal, and what follows when it is durable."""
