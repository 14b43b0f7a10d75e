"""Ownership of a journal's file: whose journal it is, and what its lock has recorded of it."""

from __future__ import annotations

from contextlib import suppress

from hub.journal.continuity import find_foreign_owner
from hub.journal.lock import Lock
from hub.journal.rows import write_fact
from hub.journal.schema import HUB, Contents
from hub.journal.writer import JournalWriter
from hub.model.journal import JournalError, JournalFull, JournalPosition


class Ownership:
    """Whose journal an open file is. Check it before anything is written; then claim the file."""

    def __init__(self, contents: Contents, recorded: JournalPosition | None, lock: Lock, writer: JournalWriter) -> None:
        self.hub = contents.hub
        """Id of the hub that the file belongs to; empty in a file of a version that did not record it."""
        self.recorded = recorded
        """Newest position that the file of the lock had recorded before the opening."""
        self._present = JournalPosition(contents.id, contents.last_offset)
        self._is_new = contents.is_new
        self._lock = lock
        self._writer = writer

    def check(self, hub: str, *, registry: JournalPosition | None, store: JournalPosition) -> None:
        """Raise JournalError if the file is the journal of another hub than `hub`. Its files then stay as they are.

        `registry` and `store` are the positions that these have seen, for the rule of hub.journal.continuity. A file
        that this opening has created is never foreign.
        """
        foreign = find_foreign_owner(
            self._present, owner=self.hub, hub=hub, registry=registry, lock=self.recorded, store=store
        )
        if foreign is not None and not self._is_new:
            self._writer.keeps_log = True
            raise JournalError(f"journal.db: {foreign.what}: {foreign.consequence}. Next step: {foreign.next_step}")

    async def claim(self, hub: str, last_offset: int) -> None:
        """Record in the file that it belongs to this hub, and beside it that it is the present journal.

        Call it before entries are submitted. Raises JournalError. On a full disk the next start records it.
        """
        if hub != self.hub:
            with suppress(JournalFull):
                await self._writer.write(write_fact(HUB, hub), makes_room=True)
                self.hub = hub
        self._lock.record(self._present.id, last_offset)
