"""A process that fills a journal and stores it until it kills itself at a random moment."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from hub.ingest.count import count_readings
from hub.journal.sqlite_journal import SqliteJournal
from hub.model.batch import Batch, Entry, EntryKind, Mark
from hub.model.store import Store
from hub.storage.bookkeeper import Bookkeeper
from hub.storage.duckdb.store import DuckdbStore
from hub.storage.writer import StoreWriter
from tests.hub.storage.readings import REGISTRY, SERIES, batch
from wire.codec import AGENT_MESSAGES
from wire.device import Data

LONGEST_S = 0.6

INTEGER, STRING = SERIES["integer"], SERIES["string"]


def journal_entry(number: int) -> Entry:
    """Return an entry as ingest makes it, with two readings that contain its number."""
    values: dict[str, list[int] | list[str]] = {INTEGER.metric: [number], STRING.metric: [f"{number}"]}
    frame = AGENT_MESSAGES["json"].encode(Data(number, [number], values))  # type: ignore[arg-type]
    content = batch([number], {INTEGER: [number], STRING: [f"{number}"]})
    return Entry(EntryKind.BATCH, "device", "0" * 16, number, 1_000 + number, "json", frame, batch=content)


def decode(entry: Entry) -> Batch:
    """Return the batch of an entry that comes from the journal's file."""
    message = AGENT_MESSAGES[entry.format].decode(entry.payload)
    assert isinstance(message, Data)
    return journal_entry(message.seq).batch or Batch([], [], readings=0)


async def append(journal: SqliteJournal, count: int) -> None:
    """Append the next `count` entries."""
    first = journal.last_offset + 1
    made = [journal_entry(number) for number in range(first, first + count)]
    await journal.append(made, [Mark("device", "0" * 16, made[-1].seq)])


def open_journal(directory: Path, *, keep_bytes: int = 1 << 20) -> SqliteJournal:
    """Open the journal of a directory."""
    return SqliteJournal(directory / "journal.db", keep_bytes=keep_bytes, keep_seconds=3600, max_bytes=1 << 30)


def books_of(journal: SqliteJournal, store: Store) -> Bookkeeper:
    """Return the accounting of a writer."""
    return Bookkeeper(
        journal, store, count=count_readings, series=lambda: {series.id: series for series in SERIES.values()}
    )


@asynccontextmanager
async def running(writer: StoreWriter) -> AsyncIterator[StoreWriter]:
    """Run the writer, and cancel it at the end."""
    task = asyncio.create_task(writer.run())
    try:
        yield writer
    finally:
        task.cancel()
        await asyncio.wait([task])
    if not task.cancelled():
        task.result()


async def fill_on(directory: Path, chance: random.Random) -> None:
    async with (
        open_journal(directory) as journal,
        DuckdbStore(directory / "history.duckdb", registry=REGISTRY) as store,
        running(
            StoreWriter(
                journal,
                store,
                books=books_of(journal, store),
                decode=decode,
                on_quarantined=lambda _: None,
                write_every_s=0.01,
                little_every_s=0.01,
            )
        ),
    ):
        threading.Timer(chance.uniform(0, LONGEST_S), os.kill, [os.getpid(), signal.SIGKILL]).start()
        while True:
            await append(journal, chance.randint(1, 300))


if __name__ == "__main__":
    asyncio.run(fill_on(Path(sys.argv[1]), random.Random(int(sys.argv[2]))))
