"""A process that writes to a store until it kills itself at a random moment."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import threading
from functools import partial
from pathlib import Path

import numpy as np

from hub.model.batch import Batch, Series
from hub.model.store import StoreCursor
from hub.storage.duckdb.store import DuckdbStore
from hub.storage.duckdb.tables import Tables
from tests.hub.storage.readings import REGISTRY, batch, entry

FLOAT, STRING = Series(1, "device", "float", "float"), Series(2, "device", "string", "string")

ROWS = (1, 3, 40, 700, 20, 20_000, 5, 125_000)
"""Rows of the batches in turn: small ones go into the write-ahead log, and a write that fills row groups bypasses it.
"""

LAST = 100
"""Offset of the last entry. All entries together stay below the limit of one answer (2 million readings) on any
machine. A process that has written it continues to roll up until its end."""

LONGEST_S = 0.5


def content(offset: int) -> Batch:
    """Return the content of the entry with this offset, which is the same in every process."""
    count = ROWS[offset % len(ROWS)]
    times = offset * 1_000_000 + np.arange(count)
    if count < 100:
        return batch(times.tolist(), {FLOAT: (times / 8).tolist(), STRING: [f"{time}" for time in times.tolist()]})
    return Batch(times, [(FLOAT, times / 8)], readings=count)


def roll_up(tables: Tables, max_rows: int) -> int:
    """Roll up in steps of any size, as the store does beside its writes."""
    return sum(
        tables.rollups.roll_up(type, max_rows) + tables.rollups.fold(type, max_rows)
        for type in (FLOAT.type, STRING.type)
    )


async def write_on(directory: Path, chance: random.Random) -> None:
    async with DuckdbStore(directory / "history.duckdb", registry=REGISTRY) as store:
        last = (await store.open()).offset
        threading.Timer(chance.uniform(0, LONGEST_S), os.kill, [os.getpid(), signal.SIGKILL]).start()
        while True:
            first, last = last + 1, min(last + chance.randint(1, 12), LAST)
            if first <= last:
                given = [entry(offset, content(offset)) for offset in range(first, last + 1)]
                await store.write(given, StoreCursor("journal", last))
            await store._run_in_writer(store._change, partial(roll_up, max_rows=chance.randint(1, 200_000)))


if __name__ == "__main__":
    asyncio.run(write_on(Path(sys.argv[1]), random.Random(int(sys.argv[2]))))
