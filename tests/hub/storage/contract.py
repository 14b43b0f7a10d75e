"""Shared helpers of the contract tests of stores: a temporary store, writes to it, and the expected contents."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import accumulate, chain
from pathlib import Path

from hypothesis import settings

from hub.model.batch import Batch
from hub.model.store import HistoryQuery, Store, StoreCursor
from tests.hub.storage.implementations import Implementation, plain
from tests.hub.storage.readings import SERIES, Reading, entries, exactly

ALL = list(SERIES.values())
EVER = (0, 2**63)
JOURNAL = "journal-a"

examples = settings(max_examples=12)
"""Each example is a store of its own, which takes some 100 ms."""


@asynccontextmanager
async def new_store(implementation: Implementation) -> AsyncIterator[Store]:
    with tempfile.TemporaryDirectory() as directory:
        async with implementation.open(Path(directory)) as store:
            await store.open()
            yield store


async def write(store: Store, batches: Sequence[Batch], *, first: int = 1) -> int:
    given = entries(batches, first)
    written = await store.write(given, StoreCursor(JOURNAL, given[-1].offset))
    await store.save()
    return written.readings


async def write_all(store: Store, writes: Sequence[Sequence[Batch]]) -> list[int]:
    """Write lists of batches one after the other. Return the number of readings that each added."""
    firsts = accumulate((len(given) for given in writes), initial=1)
    return [await write(store, given, first=first) for given, first in zip(writes, firsts, strict=False)]


def apart(implementation: Implementation, writes: list[list[Batch]]) -> list[list[Batch]]:
    """Apply Implementation.without_collisions over all writes."""
    together = iter(implementation.without_collisions(list(chain(*writes))))
    return [[next(together) for _ in given] for given in writes]


async def everything(store: Store) -> dict[int, list[tuple[int, bytes]]]:
    history = await store.query(HistoryQuery(ALL, *EVER, None))
    return {id: [(time, exactly(value)) for time, value in part] for id, part in plain(history).items()}


def expected(implementation: Implementation, batches: Sequence[Batch]) -> dict[int, list[tuple[int, bytes]]]:
    return {
        id: [(time, exactly(value)) for time, value in part] for id, part in implementation.readings_of(batches).items()
    }


def exactly_at(reading: Reading) -> tuple[int, bytes]:
    return reading[0], exactly(reading[1])
