"""A process that fills a journal and stores it until it kills itself at a random moment."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from hub.journal.consumer import Consumer, Decode, EntryReader
from hub.journal.journal import Journal
from hub.model.batch import Batch, Entry, EntryKind, Mark, Series
from hub.model.store import Store
from hub.storage.accounting import CONSUMER, AccountingService
from hub.storage.duckdb.store import DuckdbStore
from hub.storage.sink import StoreSink
from tests.hub.storage.readings import REGISTRY, SERIES, batch
from tests.tasks import running_task
from wire.codec import AGENT_MESSAGES
from wire.device import Data

LONGEST_S = 0.6

INTEGER, STRING = SERIES["integer"], SERIES["string"]


def journal_entry(number: int) -> Entry:
    """Return an entry as ingestion creates it, with two readings that identify its number."""
    values: dict[str, list[int] | list[str]] = {INTEGER.metric: [number], STRING.metric: [f"{number}"]}
    frame = AGENT_MESSAGES["json"].encode(Data(number, [number], values))  # type: ignore[arg-type]
    content = batch([number], {INTEGER: [number], STRING: [f"{number}"]})
    return Entry(EntryKind.BATCH, "device", "0" * 16, number, 1_000 + number, "json", frame, batch=content)


def decode(entry: Entry) -> Batch:
    """The batch of an entry that comes from the journal's file."""
    message = AGENT_MESSAGES[entry.format].decode(entry.payload)
    assert isinstance(message, Data)
    return journal_entry(message.seq).batch or Batch([], [], readings=0)


async def append(journal: Journal, count: int) -> None:
    """Appends the next so many entries."""
    first = journal.last_offset + 1
    made = [journal_entry(number) for number in range(first, first + count)]
    await journal.append(made, [Mark("device", "0" * 16, made[-1].seq)])


def open_journal(directory: Path, *, keep_bytes: int = 1 << 20) -> Journal:
    """The journal of a directory."""
    return Journal(directory / "journal.db", keep_bytes=keep_bytes, keep_seconds=3600, max_bytes=1 << 30)


def accounting_of(
    journal: Journal, store: Store, decode: Decode = decode, series: Iterable[Series] = SERIES.values()
) -> AccountingService:
    """Return the accounting of a store."""
    by_id = {item.id: item for item in series}
    return AccountingService(journal, EntryReader(journal, decode), store, series=lambda: by_id)


def consumer_of(
    journal: Journal,
    store: Store,
    *,
    decode: Decode = decode,
    series: Iterable[Series] = SERIES.values(),
    interval_s: float = 0,
    linger_s: float = 0,
    retries: Callable[[], float] = lambda: 0.0,
) -> Consumer:
    """Return the consumer of a store, without pauses by default."""
    accounting = accounting_of(journal, store, decode, series)
    sink = StoreSink(journal, store, accounting, interval_s=interval_s, linger_s=linger_s)
    return Consumer(journal, CONSUMER, sink, decode=decode, now_ns=lambda: 77, random=retries)


@asynccontextmanager
async def running(consumer: Consumer) -> AsyncIterator[Consumer]:
    """Run the consumer; cancel it at the end."""
    async with running_task(consumer.run()):
        yield consumer


async def fill_on(directory: Path, chance: random.Random) -> None:
    async with (
        open_journal(directory) as journal,
        DuckdbStore(directory / "history.duckdb", registry=REGISTRY) as store,
        running(consumer_of(journal, store, interval_s=0.01, linger_s=0.01)),
    ):
        threading.Timer(chance.uniform(0, LONGEST_S), os.kill, [os.getpid(), signal.SIGKILL]).start()
        while True:
            await append(journal, chance.randint(1, 300))


if __name__ == "__main__":
    asyncio.run(fill_on(Path(sys.argv[1]), random.Random(int(sys.argv[2]))))
