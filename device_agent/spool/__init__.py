"""The spool: the agent's queue of batches that are not yet acknowledged, on disk or in memory."""

from __future__ import annotations

from device_agent.spool.contract import ROW_BYTES, Count, Entry, Spool, StoredBatch, StoredCommand
from device_agent.spool.durable import SqliteSpool
from device_agent.spool.memory import MemorySpool

__all__ = ["ROW_BYTES", "Count", "Entry", "MemorySpool", "Spool", "SqliteSpool", "StoredBatch", "StoredCommand"]
