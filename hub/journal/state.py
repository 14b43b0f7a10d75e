"""State of the journal's file and the statements that change it. Pure: it decides what to execute, it executes nothing.

`JournalState` plans each commit. `Cursors`, `MarkCheckpoint`, `ResendTail` and `Retention` are its parts.
"""

from __future__ import annotations

import math
import zlib
from collections import deque
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from hub.journal import rows, schema
from hub.journal.block import SEAL_BYTES, BlockRow, encode_block, encode_marks, split
from hub.journal.quarantine import Quarantine, QuarantineChange
from hub.journal.stored_blocks import KNOWN_BLOCKS, OldBlock
from hub.model.batch import Entry, Mark
from hub.model.journal import ConsumerCursor, QuarantineDecision

CHECKPOINT_BYTES = 16 * 1024 * 1024
"""Blocks whose marks are not in the mark table yet. Opening reads at most about 250,000 marks: 0.2 s."""

CHECKPOINT_BLOCKS = 10_000
"""The same bound for a journal of small commits. Opening reads at most this many rows: 0.1 s."""

PIECE_MARKS = 500
"""Marks that one commit writes to the table: about 1 ms, so that no acknowledgement waits for a whole checkpoint."""

TRIM_BYTES = 4 * 1024 * 1024
"""Upper bound of what one commit deletes (at least one block): about 2 ms. A larger commit deletes twice its own size,
so that trimming always keeps up."""

TAIL_SAMPLES = 60
"""Samples of the acknowledged offset within the time to keep: of 30 minutes, one every 30 seconds. Entries are kept for
that much longer."""

Statement = tuple[str, tuple[Any, ...]]


class Cursors:
    """Cursor of each consumer. Changes are in memory at once and are written with the next commit."""

    def __init__(self, offsets: dict[str, int]) -> None:
        self._offsets = dict(offsets)
        self._changed: set[str] = set()

    @property
    def changed(self) -> bool:
        """Return whether a change is not on disk yet."""
        return bool(self._changed)

    def states(self) -> list[ConsumerCursor]:
        """Return the cursor of every known consumer."""
        return [ConsumerCursor(name, offset) for name, offset in self._offsets.items()]

    def consumer(self, name: str, before_oldest: int) -> ConsumerCursor:
        """Return the consumer's cursor. Register an unknown consumer at `before_oldest`."""
        if name not in self._offsets:
            self._offsets[name] = before_oldest
            self._changed.add(name)
        return ConsumerCursor(name, self._offsets[name])

    def advance(self, name: str, offset: int) -> None:
        """Set the cursor of a known consumer, also backwards. Raises ValueError for an unknown consumer."""
        if name not in self._offsets:
            raise ValueError(f"no consumer is registered as {name!r}: request its cursor first")
        if offset != self._offsets[name]:
            self._offsets[name] = offset
            self._changed.add(name)

    def remove(self, name: str) -> None:
        """Remove the consumer. Nothing happens when it is unknown."""
        if self._offsets.pop(name, None) is not None:
            self._changed.add(name)

    def passed(self, last_offset: int) -> int:
        """Return the offset that every consumer has passed; `last_offset` when there is no consumer."""
        return min(self._offsets.values(), default=last_offset)

    def slowest(self) -> ConsumerCursor | None:
        """Return the cursor of the consumer that is furthest behind."""
        return min(self.states(), key=lambda state: state.offset, default=None)

    def drain(self) -> dict[str, int | None]:
        """Return and reset the changes to write: the cursor of each changed consumer, None for a removed one."""
        changed, self._changed = self._changed, set()
        return {name: self._offsets.get(name) for name in changed}

    def put_back(self, drained: dict[str, int | None]) -> None:
        """Mark drained changes as unwritten again, after their commit failed."""
        self._changed.update(drained)


class MarkPiece(NamedTuple):
    """Marks to write to the mark table, valid up to `offset`. With `last` the table is complete up to `offset`."""

    marks: list[Mark]
    offset: int
    last: bool


class MarkCheckpoint:
    """Moves devices' marks from the blocks into the mark table, a bounded piece with each commit.

    A mark is written with the entries that it counts, into the row of their block: 0.1 µs. Updating each device's row
    with every commit would be exact at any time, but costs 8 µs a mark and six times the bytes (measured: 600 marks a
    commit, 10,000 devices). So the table is brought up to date now and then, and opening the journal reads the marks of
    the blocks after `offset`. A round copies the marks up to one offset. Marks that arrive meanwhile are for the next.
    """

    def __init__(self, offset: int, marks_after: Iterable[Mark], *, piece_marks: int = PIECE_MARKS) -> None:
        """Start with a table that is complete up to `offset`; `marks_after` are the newer marks in the blocks."""
        self.offset = offset
        self._fresh = {mark.device: mark for mark in marks_after}
        self._piece_marks = piece_marks
        self._round: dict[str, Mark] = {}
        self._round_offset: int | None = None
        self._bytes = 0
        self._blocks = 0

    def add(self, marks: Iterable[Mark], *, blocks: int, size_bytes: int) -> None:
        """Record marks that are durable in new blocks."""
        self._fresh.update((mark.device, mark) for mark in marks)
        self._blocks += blocks
        self._bytes += size_bytes

    def written(self, marks: Iterable[Mark]) -> None:
        """Record marks that are durable in the table and newer than any block's."""
        for mark in marks:
            self._fresh.pop(mark.device, None)
            self._round.pop(mark.device, None)

    def next_piece(self, last_offset: int, *, wanted: bool) -> MarkPiece | None:
        """Return what the next commit has to write. `wanted` starts a round before it is due."""
        if self._round_offset is None:
            due = self._bytes >= CHECKPOINT_BYTES or self._blocks >= CHECKPOINT_BLOCKS
            if not (due or wanted) or self.offset >= last_offset:
                return None
            self._round, self._fresh = self._fresh, {}
            self._round_offset = last_offset
            self._bytes = self._blocks = 0
        devices = list(islice(self._round, self._piece_marks))
        marks = [self._round.pop(device) for device in devices]
        return MarkPiece(marks, self._round_offset, last=not self._round)

    def confirm(self, piece: MarkPiece) -> None:
        """Record that the piece is durable in the table."""
        if piece.last:
            self.offset = piece.offset
            self._round_offset = None

    def put_back(self, piece: MarkPiece) -> None:
        """Return a piece to the round, after its commit failed."""
        self._round.update((mark.device, mark) for mark in piece.marks)


class ResendTail:
    """Offsets that every consumer had acknowledged, and when: what is kept so that a sink that lost it gets it again.

    Times are those of a monotonic clock: a clock that is set must not end or extend the time. The acknowledgements of
    an earlier run are not known, so everything that was acknowledged before counts from the opening. After a cursor
    moves back, the entries behind it count from their next acknowledgement.
    """

    def __init__(self, keep_seconds: float) -> None:
        self._keep_s = keep_seconds
        # Ascending in both parts. One sample for each TAIL_SAMPLES-th of the time, so the number is bounded.
        self._samples: deque[tuple[float, int]] = deque()

    def record(self, passed: int, now_s: float) -> None:
        """Record that every consumer has acknowledged everything up to offset `passed`."""
        samples = self._samples
        lowered: float | None = None
        while samples and samples[-1][1] > passed:
            lowered, _ = samples.pop()
        if lowered is not None:
            samples.append((lowered, passed))
        if not samples or now_s - samples[-1][0] >= self._keep_s / TAIL_SAMPLES:
            samples.append((now_s, passed))
        while len(samples) > 1 and samples[1][0] <= now_s - self._keep_s:
            samples.popleft()

    def expired(self, now_s: float) -> int:
        """Return the offset up to which everything was acknowledged longer ago than the time to keep; 0 for none."""
        if not self._samples or self._samples[0][0] > now_s - self._keep_s:
            return 0
        return self._samples[0][1]

    def passed_at(self, then_s: float) -> int | None:
        """Return an offset that every consumer had acknowledged at this time; None if it is not known."""
        known = [offset for at_s, offset in self._samples if at_s <= then_s]
        return known[-1] if known else None

    def release(self) -> None:
        """Keep nothing that is acknowledged now: its space is needed for new entries."""
        if self._samples:
            self._samples = deque([(-math.inf, self._samples[-1][1])])


class Trim(NamedTuple):
    """Number of oldest blocks to delete, and the journal's first offset afterwards."""

    blocks: int
    first_offset: int


class Retention:
    """Knows the oldest blocks and decides which of them may be deleted.

    A block may go when every consumer has passed it, its marks are in the mark table, and it is outside both kept
    ranges. Dashboards that reconnect are served from the first. It ends at `keep_seconds` (how long a dashboard may be
    disconnected) or `keep_bytes` (what that may cost on disk), whichever comes first. The second is the ResendTail,
    which ends at `resend_bytes` at the latest. The newest block always stays: it carries the last offset through a
    restart. `first_offset` is the journal's oldest offset.
    """

    def __init__(
        self, *, keep_bytes: int, keep_seconds: float, first_offset: int, begin_bytes: int, resend_bytes: int = 0
    ) -> None:
        self.first_offset = first_offset
        self._begin_bytes = begin_bytes
        self._keep_bytes = keep_bytes
        self._resend_bytes = resend_bytes
        self._keep_ns = round(keep_seconds * 1e9)
        self._oldest: deque[OldBlock] = deque()

    @property
    def known_up_to(self) -> int:
        """Return the last offset of the blocks that are known here."""
        return self._oldest[-1].last_offset if self._oldest else self.first_offset - 1

    @property
    def exhausted(self) -> bool:
        """Return whether older blocks have to be loaded before anything can be deleted."""
        return not self._oldest

    def load(self, blocks: Iterable[OldBlock]) -> None:
        """Add blocks that follow those that are known."""
        self._oldest.extend(blocks)

    def added(self, first_offset: int, blocks: Sequence[OldBlock]) -> None:
        """Record new blocks that begin at `first_offset`. They are kept in memory while there are few, else loaded."""
        if first_offset == self.known_up_to + 1 and len(self._oldest) + len(blocks) <= KNOWN_BLOCKS:
            self._oldest.extend(blocks)

    def plan(
        self, *, passed: int, end_bytes: int, now_ns: int, commit_bytes: int, expired: int | None = None
    ) -> Trim | None:
        """Return what may be deleted now: blocks up to offset `passed`, outside the ranges kept before `end_bytes`.

        Blocks after offset `expired` belong to the ResendTail. Without it there is none.
        """
        limit_bytes = max(TRIM_BYTES, 2 * commit_bytes)
        begin, count, first_offset = self._begin_bytes, 0, 0
        for block in self._oldest:
            after_bytes = end_bytes - block.end_bytes
            kept = after_bytes < self._keep_bytes and now_ns - block.received_ns < self._keep_ns
            kept |= expired is not None and block.last_offset > expired and after_bytes < self._resend_bytes
            if kept or block.last_offset > passed or (count and block.end_bytes - begin > limit_bytes):
                break
            count += 1
            first_offset = block.last_offset + 1
        return Trim(count, first_offset) if count else None

    def confirm(self, trim: Trim) -> None:
        """Record that the blocks are deleted."""
        for _ in range(trim.blocks):
            self._begin_bytes = self._oldest.popleft().end_bytes
        self.first_offset = trim.first_offset


class Commit(NamedTuple):
    """One transaction: its statements, and what becomes true once they are durable."""

    statements: list[Statement]
    entries: list[Entry]
    marks: Sequence[Mark]
    size_bytes: int
    blocks: list[OldBlock]
    cursors: dict[str, int | None]
    piece: MarkPiece | None
    trim: Trim | None
    quarantine: QuarantineChange | None


class JournalState:
    """Knows what is durable, and plans the next commit.

    There is one commit at a time: after `prepare`, `done` or `put_back` comes before the next `prepare`.
    """

    def __init__(
        self,
        contents: schema.Contents,
        *,
        keep_bytes: int,
        keep_seconds: float,
        resend_seconds: float = 0.0,
        resend_bytes: int = 0,
    ) -> None:
        self.last_offset = contents.last_offset
        self.lost = list(contents.lost)
        self.end_bytes = contents.end_bytes
        self.cursors = Cursors(contents.cursors)
        self.quarantine = Quarantine(contents.quarantine, contents.quarantine_totals, contents.quarantine_dropped)
        self.retention = Retention(
            keep_bytes=keep_bytes,
            keep_seconds=keep_seconds,
            first_offset=contents.first_offset,
            begin_bytes=contents.begin_bytes,
            resend_bytes=resend_bytes,
        )
        self.tail = ResendTail(resend_seconds)
        self.retention.load(contents.oldest)
        self._checkpoint = MarkCheckpoint(contents.checkpoint_offset, contents.marks_after_checkpoint)

    def reason_for_size(self) -> str:
        """Return why the file has its size, to continue the sentence that it has reached its bound."""
        slowest = self.cursors.slowest()
        if slowest is None or slowest.offset >= self.last_offset:
            return " and deletes what is not needed any more; if this lasts, raise the bound"
        return f", since {slowest.name} has not processed {self.last_offset - slowest.offset} of its entries yet"

    def prepare(
        self,
        entries: list[Entry],
        marks: Sequence[Mark],
        decisions: Sequence[QuarantineDecision] = (),
        facts: Sequence[tuple[str, str]] = (),
        *,
        size_bytes: int,
        now_ns: int,
        now_s: float = 0.0,
    ) -> Commit:
        """Plan the commit of these entries, marks, decisions and facts, and of everything that is due with it.

        `size_bytes` is size_of(entries), `now_s` the time of a monotonic clock. Raises TypeError or ValueError for
        entries that cannot be written; then nothing is changed.
        """
        inserts, blocks = self._blocks(entries, marks, size_bytes)
        trim, piece = self._make_room(size_bytes, now_ns, now_s)
        cursors = self.cursors.drain()
        quarantine = self.quarantine.plan(entries, self.last_offset + 1, decisions)
        statements: list[Statement] = []
        # Deletions come first: at its bound the file has only the pages that they free.
        if trim is not None:
            statements.append((schema.DELETE_BLOCKS, (trim.first_offset,)))
            if self.lost and self.lost[0].last_offset < trim.first_offset:
                statements.append((schema.DELETE_LOST, (trim.first_offset,)))
        if quarantine is not None:
            statements += _quarantine_statements(quarantine)
        statements += inserts
        statements += [rows.write_fact(name, text) for name, text in facts]
        statements += _cursor_statements(cursors)
        if piece is not None:
            statements += _piece_statements(piece)
        if marks and not entries:
            # After the statements of the piece: these marks are newer.
            statements.append((rows.WRITE_MARKS, (rows.mark_rows(marks, self.last_offset),)))
        return Commit(statements, entries, marks, size_bytes, blocks, cursors, piece, trim, quarantine)

    def confirm(self, commit: Commit) -> None:
        """Record that the commit is durable, and give its entries their offsets."""
        for offset, entry in enumerate(commit.entries, self.last_offset + 1):
            entry.offset = offset
        if commit.trim is not None:
            self.retention.confirm(commit.trim)
            self.lost = [lost for lost in self.lost if lost.last_offset >= commit.trim.first_offset]
        if commit.piece is not None:
            self._checkpoint.confirm(commit.piece)
        if commit.blocks:
            end_bytes = commit.blocks[-1].end_bytes
            self._checkpoint.add(commit.marks, blocks=len(commit.blocks), size_bytes=end_bytes - self.end_bytes)
            self.retention.added(self.last_offset + 1, commit.blocks)
            self.end_bytes = end_bytes
            self.last_offset += len(commit.entries)
        else:
            self._checkpoint.written(commit.marks)
        if commit.quarantine is not None:
            self.quarantine.confirm(commit.quarantine)

    def put_back(self, commit: Commit) -> None:
        """Restore what the commit took along, after it failed. Nothing of it is stored."""
        self.cursors.put_back(commit.cursors)
        if commit.piece is not None:
            self._checkpoint.put_back(commit.piece)

    def _make_room(self, size_bytes: int, now_ns: int, now_s: float) -> tuple[Trim | None, MarkPiece | None]:
        """Return the blocks to delete, and the marks to write because of that or because they are due."""
        # The newest block stays: it carries the last offset. Cursors that move with this very commit count.
        acknowledged = self.cursors.passed(self.last_offset)
        passed = min(acknowledged, self.last_offset - 1)
        self.tail.record(acknowledged, now_s)
        plan = partial(
            self.retention.plan,
            end_bytes=self.end_bytes,
            now_ns=now_ns,
            commit_bytes=size_bytes,
            expired=self.tail.expired(now_s),
        )
        trim = plan(passed=passed)
        blocked = trim is not None and trim.first_offset - 1 > self._checkpoint.offset
        piece = self._checkpoint.next_piece(self.last_offset, wanted=blocked)
        if blocked:
            checkpoint = piece.offset if piece is not None and piece.last else self._checkpoint.offset
            trim = plan(passed=min(passed, checkpoint))
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
            # The last block has the marks: they count all entries of the commit.
            is_last = first_offset + len(run) - 1 == last_offset
            block_marks = encode_marks(marks if is_last else ())
            end_bytes += len(data) + len(block_marks) + SEAL_BYTES
            received_ns = run[-1].received_ns
            row = BlockRow(first_offset, len(run), end_bytes, received_ns, zlib.crc32(data), block_marks, data)
            statements.append((schema.INSERT_BLOCK, row.sealed()))
            first_offset += len(run)
            blocks.append(OldBlock(first_offset - 1, end_bytes, received_ns))
        return statements, blocks


def _cursor_statements(cursors: dict[str, int | None]) -> list[Statement]:
    statements: list[Statement] = []
    known = {name: offset for name, offset in cursors.items() if offset is not None}
    removed = [name for name, offset in cursors.items() if offset is None]
    if known:
        statements.append((rows.WRITE_CONSUMERS, (rows.checked_rows(known.items()),)))
    if removed:
        statements.append((schema.DELETE_CONSUMERS, (_json(removed),)))
    return statements


def _piece_statements(piece: MarkPiece) -> list[Statement]:
    statements: list[Statement] = []
    if piece.marks:
        statements.append((rows.WRITE_MARKS, (rows.mark_rows(piece.marks, piece.offset),)))
    if piece.last:
        statements.append(rows.write_fact(schema.CHECKPOINT_OFFSET, piece.offset))
    return statements


def _quarantine_statements(change: QuarantineChange) -> list[Statement]:
    statements: list[Statement] = []
    if change.first_kept is not None:
        statements.append((schema.DELETE_QUARANTINE, (change.first_kept,)))
        statements.append(rows.write_fact(schema.QUARANTINE_DROPPED, change.dropped))
    if change.removed:
        statements.append((schema.REMOVE_FROM_QUARANTINE, (_json(change.removed),)))
    statements += [(schema.UPDATE_QUARANTINE, (offset, *(reason or ()))) for offset, reason in change.updated]
    statements += [(rows.INSERT_QUARANTINE, rows.checked(row)) for row in change.rows]
    if change.rows:
        statements.append((rows.WRITE_QUARANTINE_TOTALS, (rows.checked_rows(change.totals.items()),)))
    return statements


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
