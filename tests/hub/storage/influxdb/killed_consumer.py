"""A process that fills a journal and stores it in InfluxDB until it kills itself at a random moment.

Each entry has two readings: one that InfluxDB accepts, and one that it refuses, because its field contains integers.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from hub.journal.consumer import Consumer
from hub.journal.journal import Journal
from hub.model.batch import Batch, Entry, EntryKind, Mark, Series
from hub.model.store import Store
from tests.hub.storage import killed_consumer
from tests.hub.storage.influxdb.bucket import store_of
from tests.hub.storage.killed_consumer import open_journal, running
from tests.hub.storage.readings import batch
from tests.services.influxdb import Access
from wire.codec import AGENT_MESSAGES
from wire.device import Data

LONGEST_S = 1.5

T0 = 1_700_000_000_000_000_000
EPOCH = "0" * 16
GOOD = Series(1, "device", "good", "integer")
BAD = Series(2, "device", "bad", "float")

CONFLICT = f"telemetry,device=another bad=1i {T0}".encode()
"""Makes the field of BAD an integer field: a field gets its type from its first value within some days."""


def journal_entry(number: int) -> Entry:
    """Return an entry as ingest makes it, with two readings that contain its number."""
    time_ns = T0 + number
    frame = AGENT_MESSAGES["json"].encode(Data(number, [time_ns], {"good": [number], "bad": [number + 0.5]}))
    content = batch([time_ns], {GOOD: [number], BAD: [number + 0.5]})
    return Entry(EntryKind.BATCH, "device", EPOCH, number, 1_000 + number, "json", frame, batch=content)


def decode(entry: Entry) -> Batch:
    """Return the batch of an entry that comes from the journal's file."""
    content = journal_entry(entry.seq).batch
    assert content is not None
    return content


class Appender:
    """Appends the entries one after the other; quarantine entries of the writer are between them."""

    def __init__(self, journal: Journal, last: int) -> None:
        self._journal = journal
        self.last = last

    async def append(self, count: int) -> None:
        made = [journal_entry(number) for number in range(self.last + 1, self.last + 1 + count)]
        self.last += count
        await self._journal.append(made, [Mark("device", EPOCH, self.last, readings=2 * self.last)])


def appender(journal: Journal) -> Appender:
    """Return an appender that continues at the journal's mark."""
    mark = journal.marks().get("device")
    return Appender(journal, mark.seq if mark is not None else 0)


def consumer_of(journal: Journal, store: Store, *, retries: Callable[[], float] = lambda: 0.01) -> Consumer:
    """Return a consumer that hardly pauses."""
    return killed_consumer.consumer_of(
        journal, store, decode=decode, series=[GOOD, BAD], interval_s=0.01, linger_s=0.01, retries=retries
    )


async def fill_on(directory: Path, access: Access, chance: random.Random) -> None:
    async with (
        open_journal(directory, keep_bytes=0) as journal,
        store_of(directory, access) as opened,
        running(consumer_of(journal, opened)),
    ):
        fill = appender(journal)
        threading.Timer(chance.uniform(0, LONGEST_S), os.kill, [os.getpid(), signal.SIGKILL]).start()
        while True:
            await fill.append(chance.randint(1, 60))
            await asyncio.sleep(0.01)


if __name__ == "__main__":
    asyncio.run(fill_on(Path(sys.argv[1]), msgspec.json.decode(sys.argv[2], type=Access), random.Random(sys.argv[3])))
