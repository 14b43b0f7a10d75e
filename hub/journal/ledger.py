"""What the file holds, and which statements a commit needs to change it. Pure: it only says what to execute."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import msgspec

from hub.journal import schema
from hub.journal.block import encode_block, encode_marks, split
from hub.journal.cursors import Cursors
from hub.journal.fold import Fold, Piece
from hub.journal.quarantine import Admission, Quarantine
from hub.journal.retention import OldBlock, Retention, Trim
from hub.model.batch import Entry, Mark
from hub.model.journal import Verdict

Statement = tuple[str, tuple[Any, ...]]


class Commit(NamedTuple):
    """One transaction: its statements, and what is true once they are durable."""

    statements: list[Statement]
    entries: list[Entry]
    marks: Sequence[Mark]
    size_bytes: int
    blocks: list[OldBlock]
    cursors: dict[str, int | None]
    piece: Piece | None
    trim: Trim | None
    admission: Admission | None


class Ledger:
    """What is durable, and what the next commit makes of it.

    One commit at a time: after `prepare`, either `done` or `put_back` comes before the next `prepare`.
    """

    def __init__(self, found: schema.Found, *, keep_bytes: int, keep_seconds: float) -> None:
        self.last_offset = found.last_offset
        self.end_bytes = found.end_bytes
        self.cursors = Cursors(found.cursors)
        self.quarantine = Quarantine(found.quarantine, found.quarantine_totals, found.quarantine_dropped)
        self.retention = Retention(
            keep_bytes=keep_bytes,
            keep_seconds=keep_seconds,
            first_offset=found.first_offset,
            begin_bytes=found.begin_bytes,
        )
        self.retention.learn(found.oldest)
        self._fold = Fold(found.folded_offset, found.unfolded)

    def prepare(
        self,
        entries: list[Entry],
        marks: Sequence[Mark],
        verdicts: Sequence[Verdict] = (),
        *,
        size_bytes: int,
        now_ns: int,
    ) -> Commit:
        """The commit of these entries (size_bytes is their size_of), marks and verdicts, and of everything that is due
        with it.

        Raises TypeError or ValueError for what cannot be written; then nothing is changed.
        """
        inserts, blocks = self._blocks(entries, marks, size_bytes)
        trim, piece = self._make_room(size_bytes, now_ns)
        cursors = self.cursors.take()
        admission = self.quarantine.admit(entries, self.last_offset + 1, verdicts)
        statements: list[Statement] = []
        # What makes room comes first: at its bound the file has only the pages that this frees.
        if trim is not None:
            statements.append((schema.DELETE_BLOCKS, (trim.first_offset,)))
        if admission is not None:
            statements += _admission_statements(admission)
        statements += inserts
        statements += _cursor_statements(cursors)
        if piece is not None:
            statements += _piece_statements(piece)
        if marks and not entries:
            # After the piece's: these are newer.
            statements.append((schema.WRITE_MARKS, (_json(marks), self.last_offset)))
        return Commit(statements, entries, marks, size_bytes, blocks, cursors, piece, trim, admission)

    def done(self, commit: Commit) -> None:
        """The commit is durable; its entries have their offsets from now on."""
        for offset, entry in enumerate(commit.entries, self.last_offset + 1):
            entry.offset = offset
        if commit.trim is not None:
            self.retention.done(commit.trim)
        if commit.piece is not None:
            self._fold.done(commit.piece)
        if commit.blocks:
            end_bytes = commit.blocks[-1].end_bytes
            self._fold.add(commit.marks, blocks=len(commit.blocks), size_bytes=end_bytes - self.end_bytes)
            self.retention.added(self.last_offset + 1, commit.blocks)
            self.end_bytes = end_bytes
            self.last_offset += len(commit.entries)
        else:
            self._fold.written(commit.marks)
        if commit.admission is not None:
            self.quarantine.done(commit.admission)

    def put_back(self, commit: Commit) -> None:
        """The commit failed; nothing of it is stored."""
        self.cursors.put_back(commit.cursors)
        if commit.piece is not None:
            self._fold.put_back(commit.piece)

    def _make_room(self, size_bytes: int, now_ns: int) -> tuple[Trim | None, Piece | None]:
        """Which blocks go, and which marks have to be folded for that, or because it is time."""
        plan = partial(self.retention.plan, end_bytes=self.end_bytes, now_ns=now_ns, commit_bytes=size_bytes)
        # The newest block stays: it carries the last offset. Cursors that move with this very commit count.
        passed = min(self.cursors.passed(self.last_offset), self.last_offset - 1)
        trim = plan(passed=passed)
        blocked = trim is not None and trim.first_offset - 1 > self._fold.folded_offset
        piece = self._fold.next_piece(self.last_offset, wanted=blocked)
        if blocked:
            folded = piece.offset if piece is not None and piece.last else self._fold.folded_offset
            trim = plan(passed=min(passed, folded))
        return trim, piece

    def _blocks(
        self, entries: list[Entry], marks: Sequence[Mark], size_bytes: int
    ) -> tuple[list[Statement], list[OldBlock]]:
        statements: list[Statement] = []
        blocks: list[OldBlock] = []
        first_offset = self.last_offset + 1
        end_bytes = self.end_bytes
        last_offset = self.last_offset + len(entries)
        for run in split(entries, size_bytes):
            data = encode_block(run)
            # The last one has the marks: they count all entries of the commit.
            is_last = first_offset + len(run) - 1 == last_offset
            block_marks = encode_marks(marks if is_last else ())
            end_bytes += len(data) + len(block_marks)
            received_ns = run[-1].received_ns
            row = (first_offset, len(run), end_bytes, received_ns, zlib.crc32(data), block_marks, data)
            statements.append((schema.INSERT_BLOCK, row))
            first_offset += len(run)
            blocks.append(OldBlock(first_offset - 1, end_bytes, received_ns))
        return statements, blocks


def _cursor_statements(cursors: dict[str, int | None]) -> list[Statement]:
    statements: list[Statement] = []
    known = {name: offset for name, offset in cursors.items() if offset is not None}
    forgotten = [name for name, offset in cursors.items() if offset is None]
    if known:
        statements.append((schema.WRITE_CONSUMERS, (_json(known),)))
    if forgotten:
        statements.append((schema.DELETE_CONSUMERS, (_json(forgotten),)))
    return statements


def _piece_statements(piece: Piece) -> list[Statement]:
    statements: list[Statement] = []
    if piece.marks:
        statements.append((schema.WRITE_MARKS, (_json(piece.marks), piece.offset)))
    if piece.last:
        statements.append((schema.WRITE_FACT, ("folded_offset", piece.offset)))
    return statements


def _admission_statements(admission: Admission) -> list[Statement]:
    statements: list[Statement] = []
    if admission.first_kept is not None:
        statements.append((schema.DELETE_QUARANTINE, (admission.first_kept,)))
        statements.append((schema.WRITE_FACT, ("quarantine_dropped", admission.dropped)))
    if admission.settled:
        statements.append((schema.SETTLE_QUARANTINE, (_json(admission.settled),)))
    statements += [(schema.RENAME_QUARANTINE, (offset, *(reason or ()))) for offset, reason in admission.renamed]
    statements += [(schema.INSERT_QUARANTINE, row) for row in admission.rows]
    if admission.rows:
        statements.append((schema.WRITE_QUARANTINE_TOTALS, (_json(admission.totals),)))
    return statements


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
