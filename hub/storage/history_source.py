"""History over journal and store: what the start of a live subscription reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hub.journal.consumer import EntryReader
from hub.journal.journal import Journal
from hub.model.batch import Entry
from hub.model.store import History, HistoryQuery, Store


@dataclass
class HistorySource:
    """Implements hub.live.catch_up.CatchUpSource over the journal's reader and the store."""

    journal: Journal
    reader: EntryReader
    store: Store

    @property
    def journal_id(self) -> str:
        """Return the id of the journal that offsets belong to."""
        return self.journal.id

    async def read(self, after: int, *, max_entries: int, max_bytes: int) -> Sequence[Entry]:
        """Return journal entries after an offset; one that cannot be decoded has no batch. Raises JournalTrimmed."""
        entries, _ = await self.reader.read(after, max_entries=max_entries, max_bytes=max_bytes)
        return entries

    async def query(self, query: HistoryQuery) -> History:
        """Return stored readings and the offset they are valid for. Raises StoreUnavailable."""
        return await self.store.query(query)
