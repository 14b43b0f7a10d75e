"""The state of the journal: planned commits executed on a real database, and the parts of the plan."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.journal.block import SEAL_BYTES, size_of
from hub.journal.reader import FileReader
from hub.journal.schema import Contents, connect_writer
from hub.journal.state import (
    CHECKPOINT_BLOCKS,
    CHECKPOINT_BYTES,
    PIECE_MARKS,
    TRIM_BYTES,
    Commit,
    Cursors,
    JournalState,
    MarkCheckpoint,
    ResendTail,
    Retention,
)
from hub.journal.stored_blocks import OldBlock, read_old_blocks
from hub.model.batch import Entry, EntryKind, Mark
from hub.model.journal import ConsumerCursor
from tests.hub.journal import entries as some
from tests.hub.journal.entries import content, make_entries, make_entry, make_mark

steps = st.lists(
    st.tuples(
        st.lists(some.entries, max_size=4),
        st.lists(some.marks, max_size=4),
        st.lists(st.tuples(st.sampled_from(["store", "bridge"]), st.integers(0, 100)), max_size=2),
        st.sampled_from(["done", "done", "done", "fails", "reopened"]),
    ),
    max_size=15,
)


class File:
    """A database, and the state of what is in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.open()

    def open(self) -> None:
        self.connection, self.found = connect_writer(self.path, vfs=None, max_bytes=1 << 30)
        self.state = JournalState(self.found, keep_bytes=0, keep_seconds=0)

    def learn(self) -> None:
        if self.state.retention.exhausted:
            self.state.retention.load(read_old_blocks(self.connection, self.state.retention.known_up_to))

    def prepare(self, entries: list[Entry], marks: list[Mark]) -> Commit:
        return self.state.prepare(entries, marks, size_bytes=size_of(entries), now_ns=2**63)

    def execute(self, commit: Commit) -> None:
        with self.connection:
            for sql, values in commit.statements:
                self.connection.execute(sql, values)
        self.state.confirm(commit)
        self.learn()


@settings(max_examples=50)
@given(steps)
async def test_the_file_has_what_was_committed(
    steps: list[tuple[list[Entry], list[Mark], list[tuple[str, int]], str]],
) -> None:
    """Whatever was committed, failed, trimmed and reopened: entries, marks, cursors and totals are there."""
    with tempfile.TemporaryDirectory() as directory:
        file = File(Path(directory) / "journal.db")
        everything: list[tuple[object, ...]] = []
        marks: dict[str, Mark] = {}
        cursors: dict[str, int] = {}
        totals = Counter[str]()
        first = 1
        for entries, new_marks, moves, outcome in steps:
            for name, offset in moves:
                file.state.cursors.consumer(name, 0)
                file.state.cursors.advance(name, offset)
                cursors[name] = offset
            commit = file.prepare(entries, new_marks)
            if outcome == "fails":
                file.state.put_back(commit)
                continue
            file.execute(commit)
            everything += [content(entry) for entry in entries]
            marks.update((mark.device, mark) for mark in new_marks)
            totals.update((e.reason or ("", ""))[0] for e in entries if e.kind is EntryKind.QUARANTINE)
            if outcome == "reopened":
                file.connection.close()
                file.open()
                check_found(file.found, marks, cursors, totals)
            assert file.state.last_offset == len(everything)
            before, first = first, file.state.retention.first_offset
            assert before <= first <= max(before, min(cursors.values(), default=len(everything)) + 1)
            assert await read_all(file.path, first, len(everything)) == everything[first - 1 :]
        file.connection.close()
        file.open()
        # What moved with the last commit, if that one failed, is not there: everything else is.
        assert file.found.marks == marks
        assert file.found.quarantine_totals == totals
        file.connection.close()


def check_found(found: Contents, marks: dict[str, Mark], cursors: dict[str, int], totals: Counter[str]) -> None:
    assert found.marks == marks
    assert found.cursors == cursors
    assert found.quarantine_totals == totals
    assert found.quarantine_dropped == 0


async def read_all(path: Path, first: int, last: int) -> list[tuple[object, ...]]:
    reader = FileReader(path, vfs=None)
    entries = await reader.entries(first - 1, last, max_entries=1000, max_bytes=1 << 20)
    await reader.close()
    return [content(entry) for entry in entries]


@pytest.fixture
def file(tmp_path: Path) -> File:
    return File(tmp_path / "journal.db")


def test_a_commit_of_entries_is_one_statement(file: File) -> None:
    """Marks do not cost a statement of their own: each may cost a busy hub a wait for the interpreter."""
    commit = file.prepare(make_entries(100), [make_mark(100)])
    assert len(commit.statements) == 1


def test_deletions_precede_insertions(file: File) -> None:
    """Deletions stand before insertions: at its bound the file has no other pages than those they free."""
    file.execute(file.prepare(make_entries(3), [make_mark(3)]))
    file.execute(file.prepare(make_entries(3), [make_mark(6)]))
    commit = file.prepare(make_entries(3), [make_mark(9)])
    assert commit.trim is not None
    assert [sql.split()[0] for sql, _ in commit.statements][:2] == ["DELETE", "INSERT"]


async def test_a_large_commit_is_several_blocks(file: File) -> None:
    """Blocks are bounded, a commit is not; its marks are in the last block, so that they never precede an entry."""
    entries = make_entries(10, size_bytes=300_000)
    commit = file.prepare(entries, [make_mark(10)])
    assert len(commit.blocks) == 4
    file.execute(commit)
    rows = file.connection.execute(
        "SELECT count, length(marks) > ? FROM block ORDER BY first_offset", (SEAL_BYTES + 1,)
    ).fetchall()
    assert rows == [(3, 0), (3, 0), (3, 0), (1, 1)]
    assert await read_all(file.path, 1, 3) == [content(entry) for entry in entries[:3]]
    file.connection.close()
    file.open()
    assert file.found.marks == {"a": make_mark(10)}


def test_an_unwritable_entry_changes_nothing(file: File) -> None:
    """A commit that cannot be prepared leaves cursors to be written by the next one."""
    file.state.cursors.consumer("store", 0)
    with pytest.raises(ValueError, match="surrogates"):
        file.prepare([make_entry(device="\ud800")], [])
    assert file.state.cursors.changed


def test_many_marks_are_folded_before_their_blocks_are_deleted(file: File) -> None:
    """Trimming waits for the marks to be in their table, in pieces, and none is lost by it."""
    marks = [make_mark(1, device=str(number)) for number in range(1200)]
    file.execute(file.prepare(make_entries(1), marks))
    file.execute(file.prepare(make_entries(1), []))
    trims = []
    for _ in range(4):
        commit = file.prepare(make_entries(1), [])
        trims.append(commit.trim is not None)
        file.execute(commit)
    assert trims == [False, False, True, True]
    file.connection.close()
    file.open()
    assert file.found.marks == {mark.device: mark for mark in marks}


def test_the_database_accepts_every_statement(file: File) -> None:
    """Each kind of statement is valid where it stands alone, too."""
    file.state.cursors.consumer("store", 0)
    file.execute(file.prepare([], []))
    file.state.cursors.remove("store")
    file.execute(file.prepare([], [make_mark(1)]))
    refused = make_entry(kind=EntryKind.QUARANTINE, reason=("empty", ""))
    file.execute(file.prepare([refused], []))
    assert isinstance(file.connection, apsw.Connection)
    assert file.connection.execute("SELECT count(*) FROM consumer").get == 0


# Cursors.


names = st.sampled_from(["store", "bridge", "other"])
operations = st.lists(
    st.tuples(st.sampled_from(["consumer", "advance", "forget"]), names, st.integers(0, 9))
    | st.tuples(st.sampled_from(["write", "fail"]), names, st.just(0)),
    max_size=30,
)


@given(operations)
def test_the_disk_ends_up_with_what_is_in_memory(operations: list[tuple[str, str, int]]) -> None:
    """Whatever moved and whichever writes failed, the cursors that were taken and written are the cursors."""
    cursors = Cursors({"store": 3})
    disk = {"store": 3}
    for operation, name, offset in operations:
        if operation == "consumer":
            cursors.consumer(name, offset)
        elif operation == "advance" and name in dict(cursors.states()):
            cursors.advance(name, offset)
        elif operation == "forget":
            cursors.remove(name)
        elif operation == "fail":
            cursors.put_back(cursors.drain())
        elif operation == "write":
            write(cursors, disk)
            assert not cursors.changed
    write(cursors, disk)
    assert disk == dict(cursors.states())


def write(cursors: Cursors, disk: dict[str, int]) -> None:
    for name, offset in cursors.drain().items():
        if offset is None:
            disk.pop(name, None)
        else:
            disk[name] = offset


def test_the_slowest_consumer_decides() -> None:
    """All consumers have passed the lowest cursor; without consumers everything is passed."""
    cursors = Cursors({})
    assert cursors.passed(7) == 7
    assert cursors.slowest() is None
    cursors.consumer("store", 5)
    cursors.consumer("bridge", 2)
    assert cursors.passed(7) == 2
    assert cursors.slowest() == ConsumerCursor("bridge", 2)


def test_a_cursor_that_stays_is_not_written() -> None:
    """Advancing to where the cursor is changes nothing, and a known consumer's cursor is not begun anew."""
    cursors = Cursors({"store": 5})
    cursors.advance("store", 5)
    assert cursors.consumer("store", 0).offset == 5
    assert not cursors.changed
    with pytest.raises(ValueError, match="unknown"):
        cursors.advance("unknown", 1)


# The checkpoint of marks.


mark_steps = st.lists(
    st.tuples(
        st.sampled_from(["block", "block", "direct", "nothing"]),
        st.lists(st.sampled_from("abcdefgh"), max_size=8, unique=True),
        st.booleans(),  # whether folding is wanted
        st.booleans(),  # whether the commit fails
    ),
    max_size=40,
)


class MarkFile:
    """The table and the blocks, as the journal's file has them."""

    def __init__(self) -> None:
        self.table: dict[str, tuple[Mark, int]] = {}
        self.blocks: list[tuple[int, list[Mark]]] = []
        self.offset = 0

    def marks(self) -> dict[str, Mark]:
        """Return the marks that opening the file finds."""
        found = {device: mark for device, (mark, _) in self.table.items()}
        for offset, marks in self.blocks:
            for mark in marks:
                if offset > self.offset and offset > self.table.get(mark.device, (mark, 0))[1]:
                    found[mark.device] = mark
        return found


@given(mark_steps, st.integers(1, 4))
def test_at_any_moment_the_file_has_every_newest_mark(
    mark_steps: list[tuple[str, list[str], bool, bool]], piece_marks: int
) -> None:
    """However commits, failures, pieces and marks without entries follow on each other, opening finds the newest."""
    file, truth, checkpoint = MarkFile(), dict[str, Mark](), MarkCheckpoint(0, [], piece_marks=piece_marks)
    last_offset = 0
    for number, (kind, devices, wanted, fails) in enumerate(mark_steps, 1):
        marks = [make_mark(number, device=device) for device in devices]
        piece = checkpoint.next_piece(last_offset, wanted=wanted)
        if fails:
            if piece is not None:
                checkpoint.put_back(piece)
            continue
        if piece is not None:
            file.table.update((mark.device, (mark, piece.offset)) for mark in piece.marks)
            if piece.last:
                file.offset = piece.offset
            checkpoint.confirm(piece)
        if kind == "block":
            last_offset += 1
            file.blocks.append((last_offset, marks))
            checkpoint.add(marks, blocks=1, size_bytes=10)
        elif kind == "direct":
            file.table.update((mark.device, (mark, last_offset)) for mark in marks)
            checkpoint.written(marks)
        if kind != "nothing":
            truth.update((mark.device, mark) for mark in marks)
        assert file.marks() == truth
        assert checkpoint.offset == file.offset
        # Trimming deletes what is folded: nothing may be lost by it.
        file.blocks = [block for block in file.blocks if block[0] > file.offset]
        assert file.marks() == truth


def test_a_round_begins_when_it_is_due() -> None:
    """Enough bytes, or enough blocks, since the last round; not before."""
    for blocks, size_bytes in ((1, CHECKPOINT_BYTES), (CHECKPOINT_BLOCKS, 1)):
        checkpoint = MarkCheckpoint(0, [])
        checkpoint.add([make_mark(1)], blocks=blocks - 1, size_bytes=size_bytes - 1)
        assert checkpoint.next_piece(1, wanted=False) is None
        checkpoint.add([make_mark(2)], blocks=1, size_bytes=1)
        piece = checkpoint.next_piece(2, wanted=False)
        assert piece is not None
        assert piece == ([make_mark(2)], 2, True)
        checkpoint.confirm(piece)
        assert checkpoint.next_piece(2, wanted=True) is None


def test_a_piece_is_bounded() -> None:
    """A round of many devices is written in pieces, and is done with the last."""
    marks = [make_mark(1, device=str(number)) for number in range(2 * PIECE_MARKS + 1)]
    checkpoint = MarkCheckpoint(0, marks)
    pieces = []
    while (piece := checkpoint.next_piece(9, wanted=True)) is not None:
        assert checkpoint.offset == 0
        pieces.append(piece)
        checkpoint.confirm(piece)
    assert [(len(piece.marks), piece.last) for piece in pieces] == [
        (PIECE_MARKS, False),
        (PIECE_MARKS, False),
        (1, True),
    ]
    assert checkpoint.offset == 9
    assert [mark for piece in pieces for mark in piece.marks] == marks


# Retention.


SECOND = 10**9


def blocks_of(sizes: list[int], *, seconds: list[int] | None = None) -> list[OldBlock]:
    """Blocks of ten entries each, with these sizes and times of receipt."""
    ends = [sum(sizes[: count + 1]) for count in range(len(sizes))]
    times = seconds or [0] * len(sizes)
    return [OldBlock(10 * (n + 1), end, time * SECOND) for n, (end, time) in enumerate(zip(ends, times, strict=True))]


def retention_of(
    blocks: list[OldBlock], *, keep_bytes: int = 0, keep_seconds: float = 0, resend_bytes: int = 0
) -> Retention:
    retention = Retention(
        keep_bytes=keep_bytes,
        keep_seconds=keep_seconds,
        first_offset=1,
        begin_bytes=0,
        resend_bytes=resend_bytes,
    )
    retention.load(blocks)
    return retention


def test_the_tail_ends_at_the_first_bound() -> None:
    """A block stays while it is young enough and near enough to the end; what a consumer needs stays in any case."""
    blocks = blocks_of([100] * 5, seconds=[0, 1, 2, 3, 4])
    for keep_bytes, keep_seconds, passed, gone in [
        (0, 0, 50, 5),
        (1000, 0, 50, 5),
        (0, 1000, 50, 5),
        (1000, 1000, 50, 0),
        (200, 1000, 50, 3),
        (201, 1000, 50, 2),
        (1000, 2.5, 50, 2),
        (0, 0, 29, 2),
        (0, 0, 30, 3),
        (0, 0, 0, 0),
    ]:
        retention = retention_of(blocks, keep_bytes=keep_bytes, keep_seconds=keep_seconds)
        trim = retention.plan(passed=passed, end_bytes=500, now_ns=4 * SECOND, commit_bytes=0)
        assert (trim.blocks if trim else 0) == gone


def test_a_young_block_protects_later_blocks() -> None:
    """Only the oldest blocks go, in order: a clock that was put back does not make a hole."""
    blocks = blocks_of([100] * 3, seconds=[0, 50, 0])
    trim = retention_of(blocks, keep_bytes=1000, keep_seconds=10).plan(
        passed=30, end_bytes=300, now_ns=51 * SECOND, commit_bytes=0
    )
    assert trim == (1, 11)


@given(st.lists(st.integers(1, 2 * TRIM_BYTES), min_size=1, max_size=20), st.integers(0, 4 * TRIM_BYTES))
def test_one_commit_deletes_a_bounded_part_and_all_go_in_the_end(sizes: list[int], commit_bytes: int) -> None:
    """Each trim is within its bound, or one block, and repeating it deletes everything exactly once."""
    retention = retention_of(blocks_of(sizes))
    left = list(sizes)
    while not retention.exhausted:
        trim = retention.plan(passed=10**9, end_bytes=sum(sizes), now_ns=0, commit_bytes=commit_bytes)
        assert trim is not None
        gone, left = left[: trim.blocks], left[trim.blocks :]
        assert len(gone) == 1 or sum(gone) <= max(TRIM_BYTES, 2 * commit_bytes)
        retention.confirm(trim)
        assert retention.first_offset == 10 * (len(sizes) - len(left)) + 1
    assert left == []
    assert retention.plan(passed=10**9, end_bytes=sum(sizes), now_ns=0, commit_bytes=0) is None


def test_it_knows_what_to_learn_next() -> None:
    """The blocks to learn follow on the last known one, or on what is deleted."""
    retention = retention_of([])
    assert (retention.exhausted, retention.known_up_to) == (True, 0)
    retention.load(blocks_of([1, 1]))
    assert (retention.exhausted, retention.known_up_to) == (False, 20)
    trim = retention.plan(passed=20, end_bytes=2, now_ns=0, commit_bytes=0)
    assert trim is not None
    retention.confirm(trim)
    assert (retention.exhausted, retention.known_up_to) == (True, 20)


def test_the_resend_tail_is_kept_up_to_its_bytes() -> None:
    """Blocks after the expired offset stay although they are old, as far as they fit; what a consumer needs stays."""
    blocks = blocks_of([100] * 5)
    for resend_bytes, expired, passed, gone in [
        (1000, 0, 50, 0),
        (1000, 20, 50, 2),
        (1000, 50, 50, 5),
        (200, 0, 50, 3),
        (0, 0, 50, 5),
        (200, 0, 20, 2),
    ]:
        trim = retention_of(blocks, resend_bytes=resend_bytes).plan(
            passed=passed, end_bytes=500, now_ns=0, commit_bytes=0, expired=expired
        )
        assert (trim.blocks if trim else 0) == gone


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 100)), max_size=40), st.sampled_from([0.0, 10.0, 60.0]))
def test_nothing_expires_before_it_was_acknowledged_long_enough(moves: list[tuple[int, int]], keep_s: float) -> None:
    """Whenever an offset is expired, it was acknowledged at every moment of the time to keep."""
    tail = ResendTail(keep_s)
    history: list[tuple[float, int]] = []
    now_s = 0.0
    for seconds, passed in moves:
        now_s += seconds
        history.append((now_s, passed))
        tail.record(passed, now_s)
        expired = tail.expired(now_s)
        within = [offset for at_s, offset in history if at_s > now_s - keep_s]
        before = [offset for at_s, offset in history if at_s <= now_s - keep_s]
        assert expired <= min([*within, *before[-1:]], default=0)


def test_the_tail_is_bounded_and_can_be_released() -> None:
    """However often it is recorded, few samples are kept. Released, it keeps only what is acknowledged later."""
    tail = ResendTail(60.0)
    for step in range(10_000):
        tail.record(step, step / 10)
    assert len(tail._samples) <= 63
    assert 9_999 - 610 <= tail.expired(1_000.0) <= 9_999 - 600
    assert tail.passed_at(970.0) in range(9_680, 9_701)
    assert tail.passed_at(900.0) is None
    tail.release()
    assert 9_980 <= tail.expired(1_000.0) <= 9_999
    tail.record(20_000, 1_001.0)
    assert 9_980 <= tail.expired(1_001.0) <= 9_999
    tail.record(20_000, 1_062.0)
    assert tail.expired(1_062.0) == 20_000


def test_a_cursor_that_moves_back_begins_anew() -> None:
    """Entries that it acknowledges again count from then on."""
    tail = ResendTail(10.0)
    tail.record(100, 0.0)
    tail.record(40, 5.0)
    tail.record(100, 6.0)
    assert tail.expired(9.0) == 0
    assert tail.expired(12.0) == 40
    tail.record(100, 17.0)
    assert tail.expired(17.0) == 100
