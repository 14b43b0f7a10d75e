"""Statements, executed on a real database: what they leave is what the state says."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.journal.block import size_of
from hub.journal.reader import FileReader
from hub.journal.schema import Contents, connect_writer, read_old_blocks
from hub.journal.state import Commit, JournalState
from hub.model.batch import Entry, EntryKind, Mark
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
        self.state.done(commit)
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


def test_what_makes_room_comes_first(file: File) -> None:
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
    rows = file.connection.execute("SELECT count, length(marks) > 1 FROM block ORDER BY first_offset").fetchall()
    assert rows == [(3, 0), (3, 0), (3, 0), (1, 1)]
    assert await read_all(file.path, 1, 3) == [content(entry) for entry in entries[:3]]
    file.connection.close()
    file.open()
    assert file.found.marks == {"a": make_mark(10)}


def test_what_cannot_be_written_changes_nothing(file: File) -> None:
    """A commit that cannot be prepared leaves cursors to be written by the next one."""
    file.state.cursors.consumer("store", 0)
    with pytest.raises(ValueError, match="surrogates"):
        file.prepare([make_entry(device="\ud800")], [])
    assert file.state.cursors.changed


def test_many_marks_are_folded_before_their_blocks_go(file: File) -> None:
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
