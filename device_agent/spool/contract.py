"""The contract of a spool and the parts that its two implementations share: on disk and in memory."""

from __future__ import annotations

import asyncio
import secrets
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Self

from device_agent.batch import EncodedBatch
from wire.device import Gap
from wire.model import Metric

ROW_BYTES = 64
"""Size of a batch in a spool besides its columns: its number, its counts, its place in the tree."""

OVERFLOW_REASON = "the spool was full"

NOT_KEPT_REASON = "acknowledged before, and unknown to this hub"
"""Reason of a gap of batches that a hub acknowledged and lost, and that the spool does not keep any more."""

DAMAGED_REASON = "damaged on the disk of the agent"


class StoredBatch(NamedTuple):
    """A batch and its number."""

    seq: int
    batch: EncodedBatch


Entry = StoredBatch | Gap
"""An element of a spool, in the order of the numbers: a batch, or a declared loss of batches."""


class Count(NamedTuple):
    """An amount in batches and in readings."""

    batches: int = 0
    readings: int = 0

    def plus(self, batches: int, readings: int) -> Count:
        """Return the sum."""
        return Count(self.batches + batches, self.readings + readings)


class StoredCommand(NamedTuple):
    """A command of an operator as it is kept: its id and what the agent wrote; None if that is damaged."""

    id: str
    content: bytes | None


class Spool(ABC):
    """The agent's queue of batches that are not yet acknowledged; an async context manager for one event loop.

    Numbers start at 1 and have no holes: each is a batch or part of a gap until it is acknowledged.
    """

    durable: ClassVar[bool]
    """True if the batches survive the end of the process."""

    def __init__(self, *, max_bytes: int, new_epoch: Callable[[], str]) -> None:
        self.max_bytes = max_bytes
        """The bound of `size_bytes`."""
        self.epoch = ""
        """The random id of this numbering of batches."""
        self.next_seq = 1
        """The number of the next batch."""
        self.acked = 0
        """The highest number up to which all batches are acknowledged and removed; 0 before the first."""
        self.metrics: dict[str, Metric] = {}
        """The stored definitions of this run and of earlier runs, by name."""
        self.revision = 0
        """A number that grows whenever a definition is stored."""
        self.size_bytes = 0
        """Size of the batches: columns and ROW_BYTES each. Batches that were just acknowledged may still count."""
        self.lost = Count()
        """Batches that left the spool unacknowledged since it was opened. One that was being sent may have arrived."""
        self._new_epoch = new_epoch
        self._gaps = Gaps()
        self._changed = asyncio.Event()

    @property
    def hello_seq(self) -> int:
        """The `next_seq` of a hello: no batch from this number on was ever sent.

        Until the first welcome of a run it is the value that next_seq had before the run. It reveals a spool that was
        restored from a copy: with a number that counts new batches, a hub could not distinguish them from the older
        batches that it has under the same numbers.
        """
        return self.next_seq

    @property
    def waiting(self) -> int:
        """Number of stored batches."""
        return self.next_seq - 1 - self.acked - self._gaps.count(self.acked)

    @abstractmethod
    async def append(self, batch: EncodedBatch, metrics: Sequence[Metric] = ()) -> int:
        """Store a batch and new or changed definitions; return its number when it is durable.

        Above the bound the oldest batches are removed and become a gap; the newest always stays. A cancelled call may
        have stored its batch. Raises SpoolError; then nothing of the call is stored.
        """

    @abstractmethod
    async def read(self, after: int, *, max_batches: int, max_bytes: int = 1 << 18) -> list[Entry]:
        """Return the entries after this number, in order and within the bounds, at least one if there is any.

        A gap that begins before is cut. For a hub that lost what it acknowledged, `after` may be below `acked`: batches
        that are not kept any more are then a gap. Raises SpoolError.
        """

    @abstractmethod
    def trim(self, acked: int) -> None:
        """Remove all batches up to `acked`. A durable spool writes this with its next commit, or soon.

        Losing it in a crash costs nothing: the next welcome repeats it.
        """

    @abstractmethod
    async def replace(self, seq: int, parts: Sequence[EncodedBatch], reason: str) -> None:
        """Replace a batch that was never accepted by smaller ones; the numbers after it move up.

        Without parts it becomes a gap with this reason. Nothing changes if the batch is not stored any more.
        """

    @abstractmethod
    async def confirm(self) -> None:
        """Record that a hub accepted this spool: from now on `hello_seq` is `next_seq`. Durable on return.

        Raises SpoolError.
        """

    @abstractmethod
    async def begin_epoch(self, loss: str) -> None:
        """Begin a new epoch in which the stored batches follow a gap, number 1, with this reason. Raises SpoolError.

        The gap declares a loss of an unknown number of batches: those that only a newer copy of the spool had.
        """

    @abstractmethod
    async def read_commands(self) -> list[StoredCommand]:
        """Return the commands that are kept, in the order in which they were written first. Raises SpoolError."""

    @abstractmethod
    async def write_commands(self, written: Sequence[StoredCommand], deleted: Sequence[str]) -> None:
        """Write and delete commands together; durable on return. Raises SpoolError; then nothing has changed."""

    @abstractmethod
    async def read_settings(self) -> bytes | None:
        """Return the settings as they were written last; None without any, or if they are damaged. Raises SpoolError.

        The hub has the desired values, too, and sends them with each connection.
        """

    @abstractmethod
    async def write_settings(self, content: bytes) -> None:
        """Replace the settings; durable on return. Raises SpoolError; then nothing has changed."""

    @abstractmethod
    async def __aenter__(self) -> Self: ...

    @abstractmethod
    async def __aexit__(self, *exc_info: object) -> None: ...

    async def wait(self, after: int) -> None:
        """Wait until there is an entry after this number."""
        while self.next_seq - 1 <= after:
            await self._changed.wait()

    async def wait_room(self, size_bytes: int) -> None:
        """Wait until a batch of this size fits without an overflow, or the spool is empty."""
        while self.waiting and self.size_bytes + size_bytes + ROW_BYTES > self.max_bytes:
            await self._changed.wait()

    def _wake(self) -> None:
        # Current waiters continue and check again; later waiters check before they wait.
        self._changed.set()
        self._changed.clear()


@dataclass(frozen=True, slots=True)
class Gaps:
    """Disjoint ranges of lost numbers in order. Neighbours with the same reason are joined: an overflow is one gap.

    The value never changes, so that a state that contains it can be shared and restored.
    """

    ranges: tuple[Gap, ...] = ()

    def add(self, first: int, last: int, reason: str) -> Gaps:
        """Return these gaps and a range, of which no number is lost already."""
        kept: list[Gap] = []
        for gap in self.ranges:
            if gap.reason == reason and gap.to == first - 1:
                first = gap.from_seq
            elif gap.reason == reason and gap.from_seq == last + 1:
                last = gap.to
            else:
                kept.append(gap)
        return Gaps(tuple(sorted([*kept, Gap(first, last, reason)], key=_first)))

    def add_each(self, numbers: Iterable[int], reason: str) -> Gaps:
        """Return these gaps and each of these numbers, which are in order."""
        gaps = self
        first = last = 0
        for number in numbers:
            if number != last + 1 and first:
                gaps = gaps.add(first, last, reason)
                first = 0
            first, last = first or number, number
        return gaps.add(first, last, reason) if first else gaps

    def fill(self, first: int, last: int, reason: str) -> Gaps:
        """Return these gaps and all numbers of a range that are not lost already."""
        gaps = self
        while first <= last:
            position = bisect_right(self.ranges, first, key=_first)
            if position and self.ranges[position - 1].to >= first:
                first = self.ranges[position - 1].to + 1
                continue
            end = min(last, self.ranges[position].from_seq - 1 if position < len(self.ranges) else last)
            gaps = gaps.add(first, end, reason)
            first = end + 1
        return gaps

    def fill_between(self, first: int, last: int, present: Iterable[int], reason: str) -> Gaps:
        """Return these gaps and the numbers of a range that are not lost already, except `present`, in order."""
        gaps = self
        for number in present:
            gaps = gaps.fill(first, number - 1, reason)
            first = number + 1
        return gaps.fill(first, last, reason)

    def at(self, seq: int) -> Gap | None:
        """Return the gap that contains this number, cut to begin with it."""
        position = bisect_right(self.ranges, seq, key=_first) - 1
        if position < 0 or self.ranges[position].to < seq:
            return None
        gap = self.ranges[position]
        return Gap(seq, gap.to, gap.reason)

    def trim(self, acked: int) -> Gaps:
        """Return these gaps without the numbers up to this one."""
        if not self.ranges or self.ranges[0].from_seq > acked:
            return self
        return Gaps(
            tuple(Gap(max(gap.from_seq, acked + 1), gap.to, gap.reason) for gap in self.ranges if gap.to > acked)
        )

    def shift(self, after: int, by: int) -> Gaps:
        """Return these gaps, of which those after this number move by so many numbers."""
        return Gaps(
            tuple(
                gap if gap.from_seq <= after else Gap(gap.from_seq + by, gap.to + by, gap.reason) for gap in self.ranges
            )
        )

    def count(self, after: int = 0) -> int:
        """Return how many lost numbers follow this one."""
        return sum(gap.to - max(gap.from_seq - 1, after) for gap in self.ranges if gap.to > after)


def _first(gap: Gap) -> int:
    return gap.from_seq


def read_entries(
    seq: int, end: int, gaps: Gaps, batch_at: Callable[[int], EncodedBatch], *, max_batches: int, max_bytes: int
) -> list[Entry]:
    """Return the entries from `seq` up to before `end`, in order and within the bounds, at least one if there is any.

    `batch_at` is called with increasing numbers.
    """
    entries: list[Entry] = []
    while seq < end and len(entries) < max_batches:
        gap = gaps.at(seq)
        if gap is not None:
            entries.append(gap)
            seq = gap.to + 1
            continue
        batch = batch_at(seq)
        max_bytes -= batch.size
        if max_bytes < 0 and entries:
            break
        entries.append(StoredBatch(seq, batch))
        seq += 1
    return entries


def new_epoch() -> str:
    """Return 64 random bits in hexadecimal."""
    return secrets.token_hex(8)
