"""Ownership of a journal's file: whose journal it is, and what its lock has recorded of it."""

from __future__ import annotations

from contextlib import suppress

from hub.journal.lock import Lock
from hub.journal.rows import write_fact
from hub.journal.schema import HUB, Contents
from hub.journal.writer import JournalWriter
from hub.model.journal import JournalFull, JournalPosition


class Ownership:
    """Whose journal an open file is. Ask it before anything is written; then claim the file."""

    def __init__(self, contents: Contents, recorded: JournalPosition | None, lock: Lock, writer: JournalWriter) -> None:
        self.hub = contents.hub
        """Id of the hub that the file belongs to; empty in a file of a version that did not record it."""
        self.is_new = contents.is_new
        """True if the opening has created the file."""
        self.recorded = recorded
        """Newest position that the file of the lock had recorded before the opening."""
        self._id = contents.id
        self._lock = lock
        self._writer = writer

    def refuse(self) -> None:
        """Leave the file and its write-ahead log as they are: it is the journal of another hub."""
        self._writer.keeps_log = True

    async def claim(self, hub: str, last_offset: int) -> None:
        """Record in the file that it belongs to this hub, and beside it that it is the present journal.

        Call it before entries are submitted. Raises JournalError. On a full disk the next start records it.
        """
        if hub != self.hub:
            with suppress(JournalFull):
                await self._writer.write(write_fact(HUB, hub), makes_room=True)
                self.hub = hub
        self._lock.record(self._id, last_offset)
