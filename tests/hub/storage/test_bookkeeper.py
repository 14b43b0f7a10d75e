"""The store's books over a real journal and a real store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from hub.journal.sqlite_journal import SqliteJournal
from hub.model.books import Balance
from hub.model.store import WriteResult
from hub.storage import bookkeeper
from hub.storage.bookkeeper import CONSUMER, Bookkeeper
from tests.hub.storage.killed_writer import append, books_of, decode, open_journal
from tests.hub.storage.readings import open_store

BACKLOG = 3 * bookkeeper.COUNT_ENTRIES + 17
EACH = 2
"""Readings of an entry."""


@asynccontextmanager
async def counting(books: Bookkeeper) -> AsyncIterator[None]:
    task = asyncio.create_task(books.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def append_and_tell(journal: SqliteJournal, books: Bookkeeper, number: int) -> None:
    before = journal.last_offset
    await append(journal, number)
    books.committed(await journal.read(before, max_entries=number))


async def counted(books: Bookkeeper) -> Balance:
    """The books once nothing is left to count."""
    await books.counted()
    return books.of("device")


async def test_a_backlog_is_counted_while_the_journal_grows(tmp_path: Path) -> None:
    """From the journal's file, piece by piece; what comes meanwhile is counted as it comes."""
    async with open_journal(tmp_path) as journal:
        await append(journal, BACKLOG)
    async with open_journal(tmp_path) as journal, open_store(tmp_path) as store:
        await store.open()
        journal.consumer(CONSUMER)
        books = books_of(journal, store)
        async with counting(books):
            await append_and_tell(journal, books, 5)
            assert books.of("device").stored is None
            await books.begin(0)
            assert books.of("device") == Balance(0, None, 0, 0)
            await append_and_tell(journal, books, 7)
            assert await counted(books) == Balance(0, EACH * (BACKLOG + 12), 0, 0)


async def test_a_backlog_is_counted_while_it_is_written(tmp_path: Path) -> None:
    """What the writer has done by the time it is counted is left out, whichever of the two is quicker."""
    async with open_journal(tmp_path) as journal:
        await append(journal, BACKLOG)
    async with open_journal(tmp_path) as journal, open_store(tmp_path) as store:
        await store.open()
        journal.consumer(CONSUMER)
        books = books_of(journal, store)
        await books.begin(0)
        async with counting(books):
            offset = 0
            while offset < BACKLOG // 2:
                entries = await journal.read(offset, max_entries=1_000)
                for entry in entries:
                    entry.batch = decode(entry)
                offset = entries[-1].offset
                books.written(entries, offset, WriteResult(EACH * len(entries)))
            assert await counted(books) == Balance(EACH * offset, EACH * (BACKLOG - offset), 0, 0)
