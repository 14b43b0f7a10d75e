"""The spool: the agent's queue of batches that are not yet acknowledged. One contract, on disk and in memory."""

from __future__ import annotations

from device_agent.spool.contract import Entry, Lost, Spool, Stored
from device_agent.spool.memory import MemorySpool
from device_agent.spool.sqlite import SqliteSpool

__all__ = ["Entry", "Lost", "MemorySpool", "Spool", "SqliteSpool", "Stored"]
