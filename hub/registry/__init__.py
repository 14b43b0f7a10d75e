"""The registry: access tokens, devices, series and events in one SQLite file, registry.db in the data directory.

The running hub and the command `hub token` may use the file at the same time.
"""
