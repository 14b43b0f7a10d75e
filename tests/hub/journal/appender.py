"""A process that appends to a journal as fast as it can, and says what is durable: `python -m … PATH`.

Each line is the last offset of an append that has returned. Entry number n is of device n % 7, with seq n // 7 + 1.
"""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

from hub.journal.journal import Journal
from hub.model.batch import Entry, EntryKind, Mark

DEVICES = 7
EPOCH = "00000000000000aa"


def entry_at(offset: int) -> Entry:
    """The entry that belongs at this offset."""
    device, seq = offset % DEVICES, offset // DEVICES + 1
    payload = b"%d " % offset * (offset % 50)
    return Entry(EntryKind.BATCH, f"device-{device}", EPOCH, seq, offset, "json", payload, offset=offset)


def journal_at(path: Path) -> Journal:
    """The journal that is written and, after the kill, read."""
    return Journal(path, keep_bytes=1 << 28, keep_seconds=1e10, max_bytes=1 << 30)


async def main(path: Path) -> None:
    """Appends until it is killed."""
    async with journal_at(path) as journal:
        journal.consumer("store")
        lock = asyncio.Lock()
        appended = journal.last_offset

        async def append_for_ever() -> None:
            nonlocal appended
            while True:
                async with lock:  # offsets are promised in the order of the calls
                    entries = [entry_at(appended + 1 + number) for number in range(random.choice((1, 1, 5, 100)))]
                    appended += len(entries)
                    marks = {entry.device: Mark(entry.device, EPOCH, entry.seq, batches=entry.seq) for entry in entries}
                    call = asyncio.ensure_future(journal.append(entries, list(marks.values())))
                    await asyncio.sleep(0)
                last = await call
                journal.advance("store", last)
                sys.stdout.write(f"{last}\n")
                sys.stdout.flush()

        async with asyncio.TaskGroup() as tasks:
            for _ in range(4):
                tasks.create_task(append_for_ever())


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
