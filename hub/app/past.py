"""The past, as live subscriptions ask for it: the journal, the store, and the decoding between them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from hub.model.batch import Batch, Entry, EntryKind
from hub.model.journal import Journal, JournalTrimmed
from hub.model.store import History, HistoryQuery, Store
from wire.errors import WireError


class JournalAndStore:
    """Implements hub.live.catch_up.Past. `decode` gives the batch of an entry, or raises WireError."""

    def __init__(self, journal: Journal, store: Store, *, decode: Callable[[Entry], Batch]) -> None:
        self._journal = journal
        self._store = store
        self._decode = decode

    @property
    def journal_id(self) -> str:
        """Which journal offsets belong to."""
        return self._journal.id

    async def read(self, after: int, *, max_entries: int, max_bytes: int) -> list[Entry]:
        """Journal entries after an offset. Raises JournalTrimmed."""
        return await self._journal.read(after, max_entries=max_entries, max_bytes=max_bytes)

    async def query(self, query: HistoryQuery) -> History:
        """Stored readings and the offset they are true for. Raises StoreUnavailable."""
        return await self._store.query(query)

    def decode(self, entry: Entry) -> Batch:
        """The batch of an entry that was read from the journal's file; one without readings where it cannot be decoded.

        The store's writer puts such an entry in quarantine; everybody else goes on without it.
        """
        try:
            return self._decode(entry)
        except WireError:
            return Batch([], [], readings=0)

    async def replay(self, after: int) -> AsyncIterator[list[Entry]]:
        """What the journal has after an offset, decoded, piece by piece."""
        while after < self._journal.last_offset:
            try:
                entries = await self._journal.read(after, max_entries=5_000, max_bytes=4 << 20)
            except JournalTrimmed as error:
                after = error.first - 1
                continue
            for entry in entries:
                if entry.kind is EntryKind.BATCH and entry.batch is None:
                    entry.batch = self.decode(entry)
            yield entries
            after = entries[-1].offset
