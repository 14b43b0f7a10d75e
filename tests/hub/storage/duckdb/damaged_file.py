"""A DuckDB file with several blocks of readings, and damage at its places."""

from __future__ import annotations

import contextlib
from pathlib import Path

import duckdb
import numpy as np

from hub.model.batch import Batch
from hub.model.store import HistoryQuery, StoreCursor
from hub.storage.duckdb.store import DuckdbStore
from tests.hub.storage.readings import REGISTRY, SERIES, entry

FLOAT = SERIES["float"]

HEADER_BYTES, BLOCK_BYTES = 12_288, 262_144
"""Bytes before the first block, and of a block."""

ENTRIES, READINGS, PERIOD_NS = 4, 61_440, 100_000_000
"""Entries in the file, readings of each, and the time between two: two row groups of values that cannot be compressed,
of some hours."""


def content(offset: int) -> Batch:
    """Return the readings of the entry with this offset, the same each time."""
    times = (offset * READINGS + np.arange(READINGS)) * PERIOD_NS
    return Batch(times, [(FLOAT, np.random.default_rng(offset).random(READINGS))], readings=READINGS)


async def write_file(path: Path, first: int = 1, last: int = ENTRIES) -> None:
    """Write these entries into the file and close it."""
    async with DuckdbStore(path, registry=REGISTRY) as store:
        await store.open()
        for offset in range(first, last + 1):
            await store.write([entry(offset, content(offset))], StoreCursor("journal", offset))


async def read_all(store: DuckdbStore) -> int:
    """Read every reading of the file; return their number."""
    history = await store.query(HistoryQuery([FLOAT], 0, 2**63, None))
    return sum(len(series.times_ns) for series in history.series)


def blocks(path: Path) -> list[int]:
    """Return the place in the middle of each block."""
    return list(range(HEADER_BYTES + BLOCK_BYTES // 2, path.stat().st_size, BLOCK_BYTES))


def flip(path: Path, at: int) -> None:
    """Flip one bit."""
    with path.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 16]))


def flip_readings(path: Path) -> None:
    """Flip a bit in a block of readings, which DuckDB finds when a query reads it, and not when it opens the file."""
    for at in blocks(path):
        flip(path, at)
        with contextlib.suppress(duckdb.Error), duckdb.connect(path, read_only=True) as connection:
            connection.execute("SELECT count(*) FROM raw_float").fetchall()
            try:
                connection.execute("SELECT sum(value), sum(time_ns) FROM raw_float").fetchall()
            except duckdb.Error:
                return
        flip(path, at)
    raise AssertionError("no block has only readings")
