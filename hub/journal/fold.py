"""Moving devices' marks from the blocks into their table. Pure.

A mark is written with the entries that it counts, into their block's row: 0.1 µs. Updating each device's row in a table
with every commit would be exact at any time and cost 8 µs a mark and six times the bytes (measured: 600 marks a
commit, 10,000 devices, each commit touches most pages of the table). So the table is brought up to date now and then,
a bounded piece with each commit, and opening the journal reads the marks of the blocks after that.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

from hub.model.batch import Mark

FOLD_BYTES = 16 * 1024 * 1024
"""Blocks whose marks are not in the table yet: opening reads at most some 250,000 marks, 0.2 s."""

FOLD_BLOCKS = 10_000
"""The same for a journal of small commits: opening reads at most this many rows, 0.1 s."""

PIECE_MARKS = 500
"""Marks that one commit writes to the table: about 1 ms, so that no acknowledgement waits for all of them."""


class Piece(NamedTuple):
    """Marks to write to the table, true up to `offset`; with `last` the table then has everything up to there."""

    marks: list[Mark]
    offset: int
    last: bool


class Fold:
    """Which marks the table does not have yet; everything up to `folded_offset` it has.

    A round takes the marks up to some offset and hands them out in pieces; those that come meanwhile are for the next.
    """

    def __init__(self, folded_offset: int, unfolded: Iterable[Mark], *, piece_marks: int = PIECE_MARKS) -> None:
        self.folded_offset = folded_offset
        self._fresh = {mark.device: mark for mark in unfolded}
        self._piece_marks = piece_marks
        self._round: dict[str, Mark] = {}
        self._round_offset: int | None = None
        self._bytes = 0
        self._blocks = 0

    def add(self, marks: Iterable[Mark], *, blocks: int, size_bytes: int) -> None:
        """These marks are durable in blocks."""
        self._fresh.update((mark.device, mark) for mark in marks)
        self._blocks += blocks
        self._bytes += size_bytes

    def written(self, marks: Iterable[Mark]) -> None:
        """These marks are durable in the table, newer than any in a block."""
        for mark in marks:
            self._fresh.pop(mark.device, None)
            self._round.pop(mark.device, None)

    def next_piece(self, last_offset: int, *, wanted: bool) -> Piece | None:
        """What the next commit shall write; `wanted` begins a round before it is due."""
        if self._round_offset is None:
            due = self._bytes >= FOLD_BYTES or self._blocks >= FOLD_BLOCKS
            if not (due or wanted) or self.folded_offset >= last_offset:
                return None
            self._round, self._fresh = self._fresh, {}
            self._round_offset = last_offset
            self._bytes = self._blocks = 0
        devices = list(islice(self._round, self._piece_marks))
        marks = [self._round.pop(device) for device in devices]
        return Piece(marks, self._round_offset, last=not self._round)

    def done(self, piece: Piece) -> None:
        """The piece is durable in the table."""
        if piece.last:
            self.folded_offset = piece.offset
            self._round_offset = None

    def put_back(self, piece: Piece) -> None:
        """The write of the piece failed."""
        self._round.update((mark.device, mark) for mark in piece.marks)
