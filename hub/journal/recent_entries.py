"""The newest entries in memory, so that readers that keep up touch no file. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from dataclasses import dataclass
from itertools import islice

from hub.journal.block import limit_entries
from hub.model.batch import Entry

RECENT_ENTRIES = 65_536
"""One second at 60,000 frames/s, three times the longest write of a store; about 50 MB with the decoded batches. Older
entries are read from the file."""

RECENT_MEMORY_BYTES = 192 * 1024 * 1024
"""The same bound for large frames, with their decoded batches: three seconds of packed 400-reading frames at 3 M
readings/s. Reading and decoding an entry again costs the store a quarter more for each reading."""

LARGE_ENTRY_BYTES = 512
"""Mean payload size of a commit above which its memory is added up. Below it the memory is estimated as SMALL_FACTOR
times the payload: RECENT_ENTRIES bounds it anyway, and adding up costs 0.2 µs an entry."""

SMALL_FACTOR = 6
"""Payload, and lists of Python values, which take about five times as much."""

ITEM_BYTES = 8
"""Memory of a value in an array."""

LISTED_BYTES = 60
"""Memory of a value in a list, with its object."""

MERGED_ENTRIES = 64
"""Entries of small commits are joined up to this many, so that a trickle of commits of one entry does not become a long
list of short runs."""


@dataclass(slots=True)
class _Run:
    first_offset: int
    entries: list[Entry]
    size_bytes: int
    memory_bytes: int


def memory_of(entry: Entry) -> int:
    """Return about how many bytes of memory an entry takes with its decoded batch."""
    # The text of strings is in the payload and again in the batch.
    memory_bytes = 2 * len(entry.payload)
    batch = entry.batch
    if batch is not None:
        memory_bytes += len(batch.times) * (LISTED_BYTES if isinstance(batch.times, list) else ITEM_BYTES)
        for _, values in batch.columns:
            memory_bytes += len(values) * (LISTED_BYTES if isinstance(values, list) else ITEM_BYTES)
    return memory_bytes


class RecentEntries:
    """Bounded queue of the newest entries. At a bound the oldest are dropped.

    `first_offset` is the oldest offset in it, or the next offset when it is empty.
    """

    def __init__(
        self, first_offset: int, *, max_entries: int = RECENT_ENTRIES, max_memory_bytes: int = RECENT_MEMORY_BYTES
    ) -> None:
        self.first_offset = first_offset
        self._next_offset = first_offset
        self._max_entries = max_entries
        self._max_memory_bytes = max_memory_bytes
        self._memory_bytes = 0
        self._runs: deque[_Run] = deque()

    def extend(self, entries: list[Entry], size_bytes: int) -> None:
        """Add the entries of a commit. `size_bytes` is the size of their payloads."""
        if size_bytes > LARGE_ENTRY_BYTES * len(entries):
            memory_bytes = sum(map(memory_of, entries))
        else:
            memory_bytes = SMALL_FACTOR * size_bytes
        last = self._runs[-1] if self._runs else None
        if last is not None and len(last.entries) + len(entries) <= MERGED_ENTRIES:
            last.entries += entries
            last.size_bytes += size_bytes
            last.memory_bytes += memory_bytes
        else:
            self._runs.append(_Run(self._next_offset, entries, size_bytes, memory_bytes))
        self._next_offset += len(entries)
        self._memory_bytes += memory_bytes
        while self._runs and (
            self._next_offset - self.first_offset > self._max_entries or self._memory_bytes > self._max_memory_bytes
        ):
            self._drop_oldest()

    def drop(self, up_to: int) -> None:
        """Drop entries up to this offset: every consumer that keeps up has read them."""
        while self._runs and self._runs[0].first_offset + len(self._runs[0].entries) - 1 <= up_to:
            self._drop_oldest()

    def read(self, after: int, *, max_entries: int, max_bytes: int) -> list[Entry]:
        """Return the entry objects after `after` (at least first_offset - 1), within the bounds, at least one if
        any."""
        found: list[Entry] = []
        start = bisect_right(self._runs, after + 1, key=lambda run: run.first_offset) - 1
        for run in islice(self._runs, max(start, 0), None):
            skip = max(after + 1 - run.first_offset, 0)
            part = run.entries[skip : skip + max_entries - len(found)]
            if len(part) == len(run.entries) and run.size_bytes <= max_bytes:
                fitting, used = part, run.size_bytes  # the whole run, without adding up its entries
            else:
                fitting, used = limit_entries(part, max_bytes)
            if found and used > max_bytes:
                break
            found += fitting
            max_bytes -= used
            if len(fitting) < len(part) or len(found) >= max_entries or max_bytes <= 0:
                break
        return found

    def _drop_oldest(self) -> None:
        run = self._runs.popleft()
        self._memory_bytes -= run.memory_bytes
        self.first_offset = run.first_offset + len(run.entries)
