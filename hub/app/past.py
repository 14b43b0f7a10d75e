"""The past, as live subscriptions ask for it: the journal, the store, and the decoding between them."""

from __future__ import annotations

from collections.abc import Callable

from hub.contract.batch import Batch, Entry
from hub.contract.journal import Journal
from hub.contract.store import History, Query, Store
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

    async def query(self, query: Query) -> History:
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
