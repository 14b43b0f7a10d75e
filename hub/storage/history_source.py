"""History over journal and store: what the start of a live subscription reads."""

from __future__ import annotations

from collections.abc import Sequence

from hub.journal.consumer import EntryReader
from hub.journal.journal import Journal
from hub.model.batch import Entry
from hub.model.store import History, HistoryQuery, Store


class HistorySource:
    """Implements hub.live.catch_up.CatchUpSource over the journal's reader and the store."""

    def __init__(self, journal: Journal, reader: EntryReader, store: Store) -> None:
        self._journal = journal
        self._reader = reader
        self._store = store

    @property
    def journal_id(self) -> str:
        """Return the id of the journal that offsets belong to."""
        return self._journal.id

    async def read(self, after: int, *, max_entries: int, max_bytes: int) -> Sequence[Entry]:
        """Return journal entries after an offset; one that cannot be decoded has no batch. Raises JournalTrimmed."""
        entries, _ = await self._reader.read(after, max_entries=max_entries, max_bytes=max_bytes)
        return entries

    async def query(self, query: HistoryQuery) -> History:
        """Return stored readings and the offset they are valid for. Raises StoreUnavailable."""
        return await self._store.query(query)
