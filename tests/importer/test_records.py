"""Lines of a file: complete, numbered, in bounded memory, plain or compressed."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from importer import records as module
from importer.records import BOM, FileError, TextFile

texts = st.lists(st.sampled_from([b"a", b"bc", b"\n", b"\r\n", b"\xff", b"x" * 40])).map(b"".join)


def written(directory: Path, content: bytes, *, compressed: bool = False) -> TextFile:
    path = directory / "file"
    path.write_bytes(gzip.compress(content) if compressed else content)
    return TextFile(path)


@given(content=texts, compressed=st.booleans())
def test_lines_are_the_content_and_can_be_read_again(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, compressed: bool
) -> None:
    """Every byte is in one line, the numbers count line breaks, and the digest is that of the content."""
    file = written(tmp_path_factory.mktemp("records"), content, compressed=compressed)
    for _ in range(2):
        lines = list(file.lines())
        assert b"".join(line.raw for line in lines) == content
        assert [line.number for line in lines] == list(range(1, len(lines) + 1))
        assert [line.raw.count(b"\n") for line in lines[:-1]] == [1] * (len(lines) - 1)
        assert file.digest == hashlib.sha256(content).digest()
        assert (file.position, file.cut_off) == (file.size_bytes, False)


def test_the_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    """Programs of Windows write it; elsewhere in a file it is content."""
    lines = list(written(tmp_path, BOM + b"a\n" + BOM + b"b").lines())
    assert [line.raw for line in lines] == [b"a\n", BOM + b"b"]


def test_a_line_beyond_the_bound_comes_in_pieces_of_one_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file without line breaks must not fill the memory; the next line is numbered as an editor shows it."""
    monkeypatch.setattr(module, "MAX_LINE_BYTES", 4)
    lines = list(written(tmp_path, b"abcdefghij\nkl\nabcd\nm").lines())
    assert [(line.number, line.raw) for line in lines] == [
        (1, b"abcd"), (1, b"efgh"), (1, b"ij\n"), (2, b"kl\n"), (3, b"abcd"), (3, b"\n"), (4, b"m")
    ]  # fmt: skip


@pytest.mark.parametrize(("max_bytes", "max_lines", "count"), [(1 << 18, 3, 3), (7, 2000, 4), (8, 2000, 5)])
def test_the_head_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, max_bytes: int, max_lines: int, count: int
) -> None:
    """By lines, and by bytes at the end of a line; the lines of the whole file stay complete afterwards."""
    monkeypatch.setattr(module, "HEAD_BYTES", max_bytes)
    monkeypatch.setattr(module, "HEAD_LINES", max_lines)
    file = written(tmp_path, b"1\n" * 10)
    assert len(file.head()) == count
    assert len(list(file.lines())) == 10


def test_a_compressed_file_that_ends_too_early_is_noticed(tmp_path: Path) -> None:
    """Its complete lines are read, and `cut_off` says that there should be more."""
    content = b"".join(hashlib.sha256(bytes([n])).hexdigest().encode() + b"\n" for n in range(200))
    path = tmp_path / "file.gz"
    path.write_bytes(gzip.compress(content)[:-200])
    file = TextFile(path)
    lines = [line.raw for line in file.lines()]
    assert file.cut_off
    assert content.startswith(b"".join(lines))
    path.write_bytes(gzip.compress(content))
    whole = TextFile(path)
    assert (b"".join(line.raw for line in whole.lines()), whole.cut_off) == (content, False)


def test_the_position_follows_the_bytes_on_the_disk(tmp_path: Path) -> None:
    """Progress is shown in bytes of the file, for a compressed one in compressed bytes."""
    for compressed in (False, True):
        file = written(tmp_path, b"".join(b"%d\n" % n for n in range(100_000)), compressed=compressed)
        seen = [file.position for _ in file.lines()]
        assert seen == sorted(seen)
        assert len(set(seen)) > 2
        assert seen[-1] <= file.size_bytes == file.position


def test_a_file_that_cannot_be_read_is_reported(tmp_path: Path) -> None:
    """At once if it cannot be opened, and later if it is damaged or gone."""
    with pytest.raises(FileError, match=r"gone cannot be read: No such file"):
        TextFile(tmp_path / "gone")
    damaged = bytearray(gzip.compress(b"a\n" * 1000))
    damaged[12] ^= 0xFF
    (tmp_path / "damaged").write_bytes(damaged)
    with pytest.raises(FileError, match="damaged cannot be read"):
        list(TextFile(tmp_path / "damaged").lines())
    file = written(tmp_path, b"a\n")
    file.path.unlink()
    with pytest.raises(FileError, match="file cannot be read"):
        file.head()
