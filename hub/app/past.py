"""The past, as live subscriptions ask for it: the journal, the store, and the decoding between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hub.contract.batch import Batch, Entry, Series
from hub.contract.journal import Journal
from hub.contract.store import History, Query, Store
from hub.ingestion.acceptance import decode_entry
from wire.errors import WireError


class JournalAndStore:
    """Implements hub.live.catch_up.Past."""

    def __init__(
        self, journal: Journal, store: Store, metrics: Callable[[str], Mapping[str, Series | WireError]]
    ) -> None:
        self._journal = journal
        self._store = store
        self._metrics = metrics

    @property
    def journal_id(self) -> str:
        """Which journal offsets belong to."""
        return self._journal.id

    async def read(self, after: int, *, max_entries: int, max_bytes: int) -> list[Entry]:
        """Journal entries after an offset. Raises JournalTrimmed."""
        return await self._journal.read(after, max_entries=max_entries, max_bytes=max_bytes)

    async def query(self, query: Query) -> History:
        """Stored readings and the offset they are true for. Raises StoreUnavailable."""
        return await self._store.query(query)

    def decode(self, entry: Entry) -> Batch:
        """The batch of an entry that was read from the journal's file."""
        return decode_entry(entry, self._metrics(entry.device))
