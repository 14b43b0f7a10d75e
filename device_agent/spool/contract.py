"""The contract of a spool, which has two implementations: on disk and in memory."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from device_agent.batch import EncodedBatch
from wire.device import Gap
from wire.model import Metric

ROW_BYTES = 64
"""Size of a batch in a spool besides its columns: its number, its counts, its place in the tree."""

OVERFLOW_REASON = "the spool was full"


class StoredBatch(NamedTuple):
    """A batch and its number."""

    seq: int
    batch: EncodedBatch


Entry = StoredBatch | Gap
"""An element of a spool, in the order of the numbers: a batch, or a declared loss of batches."""


class Lost(NamedTuple):
    """Batches that left the spool unacknowledged since it was opened. A batch that was being sent may have arrived."""

    batches: int = 0
    readings: int = 0


class Spool(Protocol):
    """The agent's queue of batches that are not yet acknowledged; an async context manager for one event loop.

    Numbers start at 1 and have no holes: each is a batch or part of a gap until it is acknowledged.
    """

    @property
    def durable(self) -> bool:
        """True if the batches survive the end of the process."""

    @property
    def epoch(self) -> str:
        """The random id of this numbering of batches."""

    @property
    def next_seq(self) -> int:
        """The number of the next batch."""

    @property
    def hello_seq(self) -> int:
        """The `next_seq` of a hello: no batch from this number on was ever sent.

        Until the first welcome of a run it is the value that next_seq had before the run. It reveals a spool that was
        restored from a copy: with a number that counts new batches, a hub could not distinguish them from the older
        batches that it has under the same numbers.
        """

    @property
    def acked(self) -> int:
        """The highest number up to which all batches are acknowledged and removed; 0 before the first."""

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """The stored definitions of this run and of earlier runs, by name."""

    @property
    def revision(self) -> int:
        """A number that grows whenever a definition is stored."""

    @property
    def waiting(self) -> int:
        """Number of stored batches."""

    @property
    def size_bytes(self) -> int:
        """Their size: columns and ROW_BYTES each. Batches that were just acknowledged may still count."""

    @property
    def max_bytes(self) -> int:
        """The bound of `size_bytes`."""

    @property
    def lost(self) -> Lost:
        """Batches and readings that did not fit."""

    async def append(self, batch: EncodedBatch, metrics: Sequence[Metric] = ()) -> int:
        """Store a batch and new or changed definitions; return its number when it is durable.

        Above the bound the oldest batches are removed and become a gap; the newest always stays. A cancelled call may
        have stored its batch. Raises SpoolError; then nothing of the call is stored.
        """

    async def read(self, after: int, *, max_batches: int, max_bytes: int = 1 << 18) -> list[Entry]:
        """Return the entries after this number, in order and within the bounds, at least one if there is any.

        A gap that begins before is cut. Raises SpoolError.
        """

    async def wait(self, after: int) -> None:
        """Wait until there is an entry after this number."""

    async def wait_room(self, size_bytes: int) -> None:
        """Wait until a batch of this size fits without an overflow, or the spool is empty."""

    def trim(self, acked: int) -> None:
        """Remove all batches up to `acked`. A durable spool writes this with its next commit, or soon.

        Losing it in a crash costs nothing: the next welcome repeats it.
        """

    async def replace(self, seq: int, parts: Sequence[EncodedBatch], reason: str) -> None:
        """Replace a batch that was never accepted by smaller ones; the numbers after it move up.

        Without parts it becomes a gap with this reason. Nothing changes if the batch is not stored any more.
        """

    async def confirm(self) -> None:
        """Record that a hub accepted this spool: from now on `hello_seq` is `next_seq`. Durable on return.

        Raises SpoolError.
        """

    async def begin_epoch(self) -> None:
        """Begin a new epoch and number the stored batches from 1 on. Raises SpoolError."""

    async def __aenter__(self) -> Spool: ...

    async def __aexit__(self, *exc_info: object) -> None: ...


class Gaps:
    """Disjoint ranges of lost numbers in order. Neighbours with the same reason are joined: an overflow is one gap."""

    __slots__ = ("_gaps",)

    def __init__(self, gaps: Iterable[Gap] = ()) -> None:
        self._gaps = sorted(gaps, key=_first)

    def __iter__(self) -> Iterator[Gap]:
        return iter(self._gaps)

    def __len__(self) -> int:
        return len(self._gaps)

    def add(self, first: int, last: int, reason: str) -> None:
        """Add a range, of which no number is lost already."""
        kept: list[Gap] = []
        for gap in self._gaps:
            if gap.reason == reason and gap.to == first - 1:
                first = gap.from_seq
            elif gap.reason == reason and gap.from_seq == last + 1:
                last = gap.to
            else:
                kept.append(gap)
        self._gaps = sorted([*kept, Gap(first, last, reason)], key=_first)

    def add_each(self, numbers: Iterable[int], reason: str) -> None:
        """Add each of these numbers, which are in order; numbers between them do not change."""
        first = last = 0
        for number in numbers:
            if number != last + 1 and first:
                self.add(first, last, reason)
                first = 0
            first, last = first or number, number
        if first:
            self.add(first, last, reason)

    def at(self, seq: int) -> Gap | None:
        """Return the gap that contains this number, cut to begin with it."""
        position = bisect_right(self._gaps, seq, key=_first) - 1
        if position < 0 or self._gaps[position].to < seq:
            return None
        gap = self._gaps[position]
        return Gap(seq, gap.to, gap.reason)

    def trim(self, acked: int) -> None:
        """Remove all numbers up to this one."""
        if self._gaps and self._gaps[0].from_seq <= acked:
            self._gaps = [
                gap if gap.from_seq > acked else Gap(acked + 1, gap.to, gap.reason)
                for gap in self._gaps
                if gap.to > acked
            ]

    def shift(self, after: int, by: int) -> None:
        """Move the gaps after this number by so many numbers."""
        self._gaps = [
            gap if gap.from_seq <= after else Gap(gap.from_seq + by, gap.to + by, gap.reason) for gap in self._gaps
        ]

    def count(self, after: int = 0) -> int:
        """Return how many lost numbers follow this one."""
        return sum(gap.to - max(gap.from_seq - 1, after) for gap in self._gaps if gap.to > after)


def _first(gap: Gap) -> int:
    return gap.from_seq
