"""Deletion of old readings without waiting for the upkeep to do it."""

from __future__ import annotations

from hub.storage.duckdb.store import DuckdbStore


async def delete_before(store: DuckdbStore, time_ns: int) -> int:
    """Delete readings older than this in the writer's thread, as the upkeep does, and return their number."""
    return await store._run_in_writer(store._change, lambda tables: tables.delete_before(time_ns))
