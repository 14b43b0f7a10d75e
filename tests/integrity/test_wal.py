"""The write-ahead log: damage in the middle is found and repaired, a torn end is not damage."""

from __future__ import annotations

import os
import random
from pathlib import Path

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integrity.wal import (
    HEADER_BYTES,
    checksum,
    commits_of,
    find_damage,
    newest_pages,
    read_header,
    repaired,
    with_header,
)

ROWS = 40


class Log(bytes):
    """Bytes of a log, with a short representation in the report of a failed example."""

    def __repr__(self) -> str:
        return f"<log of {len(self)} bytes>"


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    """A log of ROWS commits, some of several pages."""
    path = tmp_path_factory.mktemp("log") / "a.db"
    dice = random.Random(1)
    connection = apsw.Connection(os.fspath(path))
    connection.pragma("journal_mode", "wal")
    connection.execute("CREATE TABLE row (id INTEGER PRIMARY KEY, data BLOB)")
    for number in range(ROWS - 1):
        connection.execute("INSERT INTO row VALUES (?, ?)", (number, dice.randbytes(dice.choice((10, 9_000)))))
    content = path.with_name("a.db-wal").read_bytes()
    connection.close()
    return Log(content)


def frames_of(log: bytes) -> int:
    """Return how many frames the log has."""
    header = read_header(log)
    assert header is not None
    return (len(log) - HEADER_BYTES) // header.frame_bytes


def accepted_frames(log: bytes) -> int:
    """Return how many frames SQLite accepts: those of whole commits up to the first wrong checksum."""
    header = read_header(log)
    assert header is not None
    running = checksum(log[:24], header.words)
    accepted = 0
    for number in range(1, frames_of(log) + 1):
        at = HEADER_BYTES + (number - 1) * header.frame_bytes
        running = checksum(log[at : at + 8] + log[at + 24 : at + header.frame_bytes], header.words, running)
        if log[at + 8 : at + 16] != header.salts or log[at + 16 : at + 24] != b"".join(
            value.to_bytes(4, "big") for value in running
        ):
            break
        if log[at + 4 : at + 8] != bytes(4):
            accepted = number
    return accepted


def test_an_intact_log_is_not_damaged(log: bytes) -> None:
    """SQLite accepts every frame of it, and a repair changes no byte."""
    header = read_header(log)
    assert header is not None
    assert header.page_bytes == 4096
    assert len(commits_of(log, header)) == ROWS
    assert accepted_frames(log) == frames_of(log)
    assert find_damage(log, frames_of(log)) is None
    assert repaired(log) == log


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_flipped_bit_before_the_last_commit_is_damage(log: bytes, data: st.DataObject) -> None:
    """The damage is at the flipped frame, and all later commits are counted and kept."""
    header = read_header(log)
    assert header is not None
    commits = commits_of(log, header)
    end = HEADER_BYTES + commits[-2] * header.frame_bytes
    at = data.draw(st.integers(HEADER_BYTES, end - 1))
    damaged = bytearray(log)
    damaged[at] ^= 1 << data.draw(st.integers(0, 7))
    accepted = accepted_frames(bytes(damaged))
    found = find_damage(bytes(damaged), accepted)
    assert found is not None
    frame = (at - HEADER_BYTES) // header.frame_bytes + 1
    assert found == (frame, sum(number > frame for number in commits))
    whole = repaired(bytes(damaged))
    assert accepted_frames(whole) == frames_of(whole) >= frames_of(log) - 1


@settings(max_examples=60, deadline=None)
@given(size=st.integers(0, 10**9), rest=st.sampled_from(("nothing", "zeros", "older frames")))
def test_a_torn_end_is_not_damage(log: bytes, size: int, rest: str) -> None:
    """A log that ends anywhere, followed by nothing, zeros or frames of an earlier use, is not damaged."""
    size %= len(log) + 1
    older = bytearray(log)
    header = read_header(log)
    assert header is not None
    for number in range(frames_of(log)):
        at = HEADER_BYTES + number * header.frame_bytes + 8
        older[at : at + 8] = b"an older"
    tail = {"nothing": b"", "zeros": bytes(len(log) - size), "older frames": bytes(older[size:])}[rest]
    torn = log[:size] + tail
    if read_header(torn) is None:
        return
    assert find_damage(torn, accepted_frames(torn)) is None


def test_a_damaged_header_is_replaced(log: bytes) -> None:
    """The salts of the frames and the size of the pages are enough to read them all."""
    damaged = b"\0" * HEADER_BYTES + log[HEADER_BYTES:]
    assert read_header(damaged) is None
    with pytest.raises(ValueError, match="header"):
        repaired(damaged)
    whole = repaired(with_header(damaged, 4096))
    assert accepted_frames(whole) == frames_of(log)
    assert whole[HEADER_BYTES + 24 :][:4096] == log[HEADER_BYTES + 24 :][:4096]


@pytest.mark.parametrize("content", [b"", b"short", bytes(HEADER_BYTES), bytes(10_000)])
def test_bytes_without_frames_stay(content: bytes) -> None:
    """A log without a frame has no damage, and gets no header."""
    assert with_header(content, 4096) == content
    assert find_damage(content, 0) is None


def test_big_endian_words_are_read(log: bytes) -> None:
    """The magic number says in which byte order the checksums add the words."""
    head = bytearray(log[:24])
    head[3] |= 1
    first, second = checksum(bytes(head), ">")
    header = read_header(bytes(head) + first.to_bytes(4, "big") + second.to_bytes(4, "big"))
    assert header is not None
    assert header.words == ">"


def test_the_path_of_the_log_is_beside_the_database(tmp_path: Path) -> None:
    """SQLite names the log after the database."""
    connection = apsw.Connection(os.fspath(tmp_path / "b.db"))
    connection.pragma("journal_mode", "wal")
    connection.execute("CREATE TABLE row (id INTEGER)")
    assert (tmp_path / "b.db-wal").exists()
    connection.close()


def test_the_newest_pages_are_those_that_a_checkpoint_writes(log: bytes, tmp_path: Path) -> None:
    """Applied to the file that the log belongs to, they give the content that SQLite writes."""
    path = tmp_path / "a.db"
    connection = apsw.Connection(os.fspath(path))
    connection.pragma("journal_mode", "wal")
    connection.close()
    path.with_name("a.db-wal").write_bytes(log)
    pages = newest_pages(log)
    connection = apsw.Connection(os.fspath(path))
    assert connection.execute("SELECT count(*) FROM row").get == ROWS - 1
    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    connection.close()
    content = path.read_bytes()
    size = len(pages[1])
    assert {number: content[(number - 1) * size : number * size] for number in pages} == pages
    assert newest_pages(b"no log") == {}
