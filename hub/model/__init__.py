"""Vocabulary of the hub: batches, journal, store, accounting, identities. Pure; below every other package."""
