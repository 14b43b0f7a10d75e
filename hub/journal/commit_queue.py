"""Queue of what waits for the next commit: submitted entries with their sources, and appended calls."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from hub.journal.block import size_of
from hub.model.batch import Entry, Mark
from hub.model.journal import DurabilityCallback, EntrySource, JournalError, QuarantineDecision
from wire.limits import MAX_PENDING_BYTES

COMMIT_BYTES = 8 * 1024 * 1024
"""Appended calls beyond this size wait for the next commit, so that the first do not wait for the last. A larger call
is committed as it is: it is one transaction."""


class AppendCall(NamedTuple):
    """An append that waits for its commit."""

    entries: list[Entry]
    marks: list[Mark]
    decisions: list[QuarantineDecision]
    size_bytes: int
    durable: asyncio.Future[int]


class CommitGroup(NamedTuple):
    """Everything that shares one commit. The entries are those that were submitted, then those of `calls`."""

    entries: list[Entry]
    submitted: int
    submitted_bytes: int
    source_marks: dict[EntrySource, Mark]
    decisions: list[QuarantineDecision]
    callbacks: list[DurabilityCallback]
    calls: list[AppendCall]
    facts: list[tuple[str, str]]

    @property
    def is_empty(self) -> bool:
        """Return whether there is nothing to commit."""
        return not self.source_marks and not self.calls

    @property
    def marks(self) -> list[Mark]:
        """Return the marks of the sources and of the calls."""
        return [*self.source_marks.values(), *(mark for call in self.calls for mark in call.marks)]

    def succeed(self, last_offset: int) -> None:
        """Report to the callers that the group is durable; `last_offset` is its last entry's."""
        offset = last_offset - len(self.entries) + self.submitted
        for call in self.calls:
            offset += len(call.entries)
            if not call.durable.done():
                call.durable.set_result(offset)
        notify(self.callbacks, None)

    def fail(self, error: JournalError) -> None:
        """Report to the callers that nothing of the group is stored."""
        for call in self.calls:
            if not call.durable.done():
                call.durable.set_exception(error)
        notify(self.callbacks, error)


class CommitQueue:
    """Submitted entries and appended calls, in the order of their arrival.

    Submitted entries count as pending until their commit has ended: they are not durable before. `room` is set while
    they are at most MAX_PENDING_BYTES.
    """

    def __init__(self) -> None:
        self.room = asyncio.Event()
        self.room.set()
        self.entries: list[Entry] = []
        self.callbacks: list[DurabilityCallback] = []
        self.calls: deque[AppendCall] = deque()
        self._bytes = 0
        self._sources: set[EntrySource] = set()
        self._decisions: list[QuarantineDecision] = []
        self.facts: list[tuple[str, str]] = []

    @property
    def is_empty(self) -> bool:
        """Return whether no entry, no mark and no call waits."""
        return not self._sources and not self.calls

    def submit(self, source: EntrySource, entry: Entry, decision: QuarantineDecision | None) -> None:
        """Add an entry of a source; the hot path."""
        self.entries.append(entry)
        self._sources.add(source)
        if decision is not None:
            self._decisions.append(decision)
        self._bytes += len(entry.payload)
        if self._bytes > MAX_PENDING_BYTES:
            self.room.clear()

    def touch(self, source: EntrySource) -> None:
        """Add the mark of a source, without an entry."""
        self._sources.add(source)

    def append(
        self, entries: Sequence[Entry], marks: Sequence[Mark], decisions: Sequence[QuarantineDecision]
    ) -> asyncio.Future[int]:
        """Add a call; its future gets the offset of its last entry."""
        durable: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.calls.append(AppendCall(list(entries), list(marks), list(decisions), size_of(entries), durable))
        return durable

    def next_group(self) -> CommitGroup:
        """Remove and return what the next commit takes: all submitted entries, and the calls that fit."""
        entries, self.entries = self.entries, []
        sources, self._sources = self._sources, set()
        decisions, self._decisions = self._decisions, []
        callbacks, self.callbacks = self.callbacks, []
        facts, self.facts = self.facts, []
        submitted, submitted_bytes = len(entries), self._bytes if entries else 0
        size_bytes = submitted_bytes
        calls: list[AppendCall] = []
        while self.calls and (not (entries or calls) or size_bytes + self.calls[0].size_bytes <= COMMIT_BYTES):
            call = self.calls.popleft()
            if not call.durable.cancelled():
                calls.append(call)
                size_bytes += call.size_bytes
        for call in calls:
            entries += call.entries
            decisions += call.decisions
        marks = {source: source.mark() for source in sources}
        return CommitGroup(entries, submitted, submitted_bytes, marks, decisions, callbacks, calls, facts)

    def discard(self) -> tuple[set[EntrySource], list[DurabilityCallback]]:
        """Remove all submitted entries; return their sources and the callbacks that wait for them."""
        sources, self._sources = self._sources, set()
        callbacks, self.callbacks = self.callbacks, []
        self.entries.clear()
        self._decisions.clear()
        self.facts.clear()
        self._bytes = 0
        return sources, callbacks

    def release(self, size_bytes: int) -> None:
        """Count submitted entries of this size as settled."""
        self._bytes = max(0, self._bytes - size_bytes)
        if self._bytes <= MAX_PENDING_BYTES:
            self.room.set()


def notify(callbacks: Sequence[DurabilityCallback], error: JournalError | None) -> None:
    """Call back everyone that waits. A callback may submit more immediately."""
    for callback in callbacks:
        callback(error)
