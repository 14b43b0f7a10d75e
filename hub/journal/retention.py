"""Which of the oldest blocks may go. Pure.

A block goes when every consumer's cursor has passed it, the marks it holds are in their table, and it is older than the
kept tail, which dashboards that come back are served from. The tail ends at whichever comes first: `keep_seconds` is
how long a dashboard may be away, `keep_bytes` what that may cost on disk. The newest block stays always: it carries the
last offset through a restart.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

TRIM_BYTES = 4 * 1024 * 1024
"""Deleted with one commit, at most (one block at least): about 2 ms, so that no acknowledgement waits long. A commit
that is larger deletes twice its own size, so that trimming always keeps up."""

KNOWN_BLOCKS = 256
"""Of the oldest blocks, so many are known at a time; more are read from the file when those are gone. It bounds the
blocks of one trim, too."""


class OldBlock(NamedTuple):
    """What trimming knows of a block. `end_bytes` is the journal's size up to its end, since the journal began."""

    last_offset: int
    end_bytes: int
    received_ns: int


class Trim(NamedTuple):
    """How many of the oldest blocks go, and the offset that is the first one then."""

    blocks: int
    first_offset: int


class Retention:
    """Knows the oldest blocks and decides which go next. `first_offset` is the journal's oldest offset."""

    def __init__(self, *, keep_bytes: int, keep_seconds: float, first_offset: int, begin_bytes: int) -> None:
        self.first_offset = first_offset
        self._begin_bytes = begin_bytes
        self._keep_bytes = keep_bytes
        self._keep_ns = round(keep_seconds * 1e9)
        self._oldest: deque[OldBlock] = deque()

    @property
    def known_up_to(self) -> int:
        """The last offset of the blocks that are known here."""
        return self._oldest[-1].last_offset if self._oldest else self.first_offset - 1

    @property
    def exhausted(self) -> bool:
        """Whether more of the oldest blocks have to be learnt before anything can go."""
        return not self._oldest

    def learn(self, blocks: Iterable[OldBlock]) -> None:
        """These follow on those that are known."""
        self._oldest.extend(blocks)

    def added(self, first_offset: int, blocks: Sequence[OldBlock]) -> None:
        """These are the newest now, from `first_offset` on. Known when all are few; learnt later when not."""
        if first_offset == self.known_up_to + 1 and len(self._oldest) + len(blocks) <= KNOWN_BLOCKS:
            self._oldest.extend(blocks)

    def plan(self, *, passed: int, end_bytes: int, now_ns: int, commit_bytes: int) -> Trim | None:
        """What may go now: blocks up to the offset `passed`, beyond the tail that ends at `end_bytes` and `now_ns`."""
        room = max(TRIM_BYTES, 2 * commit_bytes)
        begin, count, first_offset = self._begin_bytes, 0, 0
        for block in self._oldest:
            kept = end_bytes - block.end_bytes < self._keep_bytes and now_ns - block.received_ns < self._keep_ns
            if kept or block.last_offset > passed or (count and block.end_bytes - begin > room):
                break
            count += 1
            first_offset = block.last_offset + 1
        return Trim(count, first_offset) if count else None

    def done(self, trim: Trim) -> None:
        """The blocks are gone."""
        for _ in range(trim.blocks):
            self._begin_bytes = self._oldest.popleft().end_bytes
        self.first_offset = trim.first_offset
