"""The store's accounting over a real journal and a real store."""

from __future__ import annotations

from pathlib import Path

from hub.journal.journal import Journal
from hub.model.accounting import Balance
from hub.model.store import WriteResult
from hub.storage import accounting as accounting_module
from hub.storage.accounting import CONSUMER, AccountingService
from tests.hub.storage.killed_consumer import accounting_of, append, decode, open_journal
from tests.hub.storage.readings import open_store
from tests.tasks import running_task

BACKLOG = 3 * accounting_module.COUNT_ENTRIES + 17
EACH = 2
"""Readings of an entry."""


async def append_and_tell(journal: Journal, accounting: AccountingService, number: int) -> None:
    before = journal.last_offset
    await append(journal, number)
    accounting.committed(await journal.read(before, max_entries=number))


async def counted(accounting: AccountingService) -> Balance:
    """The accounting once nothing is left to count."""
    await accounting.counted()
    return accounting.balance("device")


async def test_a_backlog_is_counted_while_the_journal_grows(tmp_path: Path) -> None:
    """From the journal's file, piece by piece; what comes meanwhile is counted as it comes."""
    async with open_journal(tmp_path) as journal:
        await append(journal, BACKLOG)
    async with open_journal(tmp_path) as journal, open_store(tmp_path) as store:
        await store.open()
        journal.consumer(CONSUMER)
        accounting = accounting_of(journal, store)
        async with running_task(accounting.run()):
            await append_and_tell(journal, accounting, 5)
            assert accounting.balance("device").stored is None
            await accounting.begin(0)
            assert accounting.balance("device") == Balance(0, None, 0, 0)
            await append_and_tell(journal, accounting, 7)
            assert await counted(accounting) == Balance(0, EACH * (BACKLOG + 12), 0, 0)


async def test_a_backlog_is_counted_while_it_is_written(tmp_path: Path) -> None:
    """Entries that are written before they are counted are left out, whichever of the two is faster."""
    async with open_journal(tmp_path) as journal:
        await append(journal, BACKLOG)
    async with open_journal(tmp_path) as journal, open_store(tmp_path) as store:
        await store.open()
        journal.consumer(CONSUMER)
        accounting = accounting_of(journal, store)
        await accounting.begin(0)
        async with running_task(accounting.run()):
            offset = 0
            while offset < BACKLOG // 2:
                entries = await journal.read(offset, max_entries=1_000)
                for entry in entries:
                    entry.batch = decode(entry)
                offset = entries[-1].offset
                accounting.written(entries, offset, WriteResult(EACH * len(entries)))
            assert await counted(accounting) == Balance(EACH * offset, EACH * (BACKLOG - offset), 0, 0)
