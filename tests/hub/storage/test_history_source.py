"""History for the start of a subscription: the journal's entries, and what the store has."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub.journal.consumer import EntryReader
from hub.journal.journal import Journal
from hub.model.batch import Batch, Entry, EntryKind, Series
from hub.model.journal import JournalTrimmed
from hub.model.store import HistoryQuery, StoreCursor
from hub.storage.history_source import HistorySource
from tests.hub.storage.readings import open_store

LEVEL = Series(1, "pump", "level", "float")


def decode(entry: Entry) -> Batch:
    return Batch([entry.seq], [(LEVEL, [float(entry.seq)])], readings=1)


async def test_entries_come_from_the_journal_and_readings_from_the_store(tmp_path: Path) -> None:
    """Offsets belong to the journal that it names; an answer of the store says up to which offset it is valid."""
    journal = Journal(tmp_path / "journal.db", keep_bytes=1 << 20, keep_seconds=3600, max_bytes=1 << 30)
    async with journal, open_store(tmp_path) as store:
        await store.open()
        source = HistorySource(journal, EntryReader(journal, decode), store)
        entries = [Entry(EntryKind.BATCH, "pump", "e", seq, 1, "json", b"{}") for seq in (1, 2, 3)]
        for entry in entries:
            entry.batch = decode(entry)
        await journal.append(entries, [])
        await store.write(entries[:2], StoreCursor(journal.id, 2))
        assert source.journal_id == journal.id
        read = await source.read(1, max_entries=1, max_bytes=1 << 20)
        assert [(entry.offset, entry.batch is not None) for entry in read] == [(2, True)]
        assert [entry.offset for entry in await source.read(1, max_entries=9, max_bytes=1 << 20)] == [2, 3]
        history = await source.query(HistoryQuery([LEVEL], 0, 9, 100))
        assert (history.cursor, [list(part.values) for part in history.series]) == (
            StoreCursor(journal.id, 2), [[1.0, 2.0]]
        )  # fmt: skip


async def test_deleted_entries_are_reported_as_such(tmp_path: Path) -> None:
    """The start of a subscription then asks the store."""
    journal = Journal(tmp_path / "journal.db", keep_bytes=0, keep_seconds=3600, max_bytes=1 << 30)
    async with journal, open_store(tmp_path) as store:
        journal.consumer("store")
        source = HistorySource(journal, EntryReader(journal, decode), store)
        for seq in (1, 2, 3):
            await journal.append([Entry(EntryKind.BATCH, "pump", "e", seq, 1, "json", b"{}")], [])
            journal.advance("store", seq)
        assert journal.first_offset > 1
        with pytest.raises(JournalTrimmed):
            await source.read(0, max_entries=9, max_bytes=1 << 20)
