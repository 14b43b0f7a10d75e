"""The declared losses of a spool: disjoint ranges of numbers in order. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator

from wire.device import Gap


class Gaps:
    """Ranges of lost numbers. Neighbours with the same reason are one range, so a long overflow stays one gap."""

    __slots__ = ("_gaps",)

    def __init__(self, gaps: Iterable[Gap] = ()) -> None:
        self._gaps = sorted(gaps, key=_first)

    def __iter__(self) -> Iterator[Gap]:
        return iter(self._gaps)

    def __len__(self) -> int:
        return len(self._gaps)

    def add(self, first: int, last: int, reason: str) -> None:
        """Declares these numbers lost, none of which was."""
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
        """Declares each of these numbers lost; they come in order, and what is between them stays as it is."""
        first = last = 0
        for number in numbers:
            if number != last + 1 and first:
                self.add(first, last, reason)
                first = 0
            first, last = first or number, number
        if first:
            self.add(first, last, reason)

    def at(self, seq: int) -> Gap | None:
        """What is left of the gap that this number is in, from this number on."""
        position = bisect_right(self._gaps, seq, key=_first) - 1
        if position < 0 or self._gaps[position].to < seq:
            return None
        gap = self._gaps[position]
        return Gap(seq, gap.to, gap.reason)

    def trim(self, acked: int) -> None:
        """Forgets all up to this number."""
        if self._gaps and self._gaps[0].from_seq <= acked:
            self._gaps = [
                gap if gap.from_seq > acked else Gap(acked + 1, gap.to, gap.reason)
                for gap in self._gaps
                if gap.to > acked
            ]

    def shift(self, after: int, by: int) -> None:
        """Moves the gaps after this number by so many numbers."""
        self._gaps = [
            gap if gap.from_seq <= after else Gap(gap.from_seq + by, gap.to + by, gap.reason) for gap in self._gaps
        ]

    def count(self, after: int = 0) -> int:
        """How many lost numbers there are after this one."""
        return sum(gap.to - max(gap.from_seq - 1, after) for gap in self._gaps if gap.to > after)


def _first(gap: Gap) -> int:
    return gap.from_seq
