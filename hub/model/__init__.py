"""What the hub's rooms promise each other: the batch as it travels inside, and the contracts of journal and store.

Pure; below every other room of the hub, so that live and ingestion can use a journal without knowing which one it is.
"""
