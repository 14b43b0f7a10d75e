"""Stopping a reading from outside of the thread that it is in."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from hub.storage.duckdb.database import Database, Reader


class Stop:
    """Called from the event loop, it stops a reading in a thread: under way, or not begun yet."""

    def __init__(self) -> None:
        self.called = False
        self.reason: str | None = None
        self._reader: Reader | None = None

    def __call__(self, reason: str | None = None) -> bool:
        """Tells whether the reading had begun. With a reason, the caller gets it as StoreUnavailable."""
        self.called = True
        self.reason = reason
        if self._reader is None:
            return False
        self._reader.stop()
        # Between two pieces nobody else would let go of the tables.
        self._reader.end()
        return True

    @contextlib.contextmanager
    def reader_of(self, database: Database) -> Iterator[Reader]:
        """The reader that can be stopped."""
        with database.reader() as reader:
            # One of the two sees the other: this the call, or the call this reader.
            self._reader = reader
            if self.called:
                reader.stop()
            yield reader
