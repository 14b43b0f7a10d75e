"""The pieces of a file: complete, in bounded memory, plain or compressed."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from importer import records as module
from importer.records import FileError, TextFile


def written(directory: Path, content: bytes, *, compressed: bool = False) -> TextFile:
    path = directory / "file"
    path.write_bytes(gzip.compress(content) if compressed else content)
    return TextFile(path)


@given(
    content=st.binary(max_size=64).map(b"a".__add__) | st.just(b""), size=st.integers(1, 20), compressed=st.booleans()
)
def test_pieces_are_the_content_and_can_be_read_again(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, size: int, compressed: bool
) -> None:
    """Every byte is in one piece of the given size, and the digest is that of the content."""
    file = written(tmp_path_factory.mktemp("records"), content, compressed=compressed)
    for _ in range(2):
        pieces = list(file.pieces(size))
        assert b"".join(pieces) == content
        assert all(len(piece) == size for piece in pieces[:-1])
        assert file.digest == hashlib.sha256(content).digest()
        assert (file.position, file.cut_off) == (file.size_bytes, False)


@pytest.mark.parametrize(
    ("content", "head"), [(b"1\n" * 4, b"1\n1\n1\n"), (b"1\n22", b"1\n22"), (b"1" * 9, b"1" * 7), (b"", b"")]
)
def test_the_head_has_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, head: bytes) -> None:
    """It is bounded, and the pieces of the whole file stay complete afterwards."""
    monkeypatch.setattr(module, "HEAD_BYTES", 7)
    file = written(tmp_path, content)
    assert file.head() == head
    assert b"".join(file.pieces()) == content


def test_a_compressed_file_that_ends_too_early_is_noticed(tmp_path: Path) -> None:
    """The rest is read, and `cut_off` says that there should be more."""
    content = b"".join(hashlib.sha256(bytes([n])).hexdigest().encode() + b"\n" for n in range(200))
    path = tmp_path / "file.gz"
    path.write_bytes(gzip.compress(content)[:-200])
    file = TextFile(path)
    found = b"".join(file.pieces())
    assert file.cut_off
    assert found
    assert content.startswith(found)
    path.write_bytes(gzip.compress(content))
    whole = TextFile(path)
    assert (b"".join(whole.pieces()), whole.cut_off) == (content, False)


@pytest.mark.parametrize("compressed", [False, True])
def test_the_position_follows_the_bytes_on_the_disk(tmp_path: Path, compressed: bool) -> None:
    """Progress is shown in bytes of the file, for a compressed one in compressed bytes."""
    file = written(tmp_path, b"".join(b"%d\n" % n for n in range(100_000)), compressed=compressed)
    seen = [file.position for _ in file.pieces(10_000)]
    assert seen == sorted(seen)
    assert len(set(seen)) > 2
    assert seen[-1] <= file.size_bytes == file.position


@pytest.mark.parametrize(("content", "is_open"), [(b"a\n", False), (b"a\r", False), (b"a\nb", True), (b"", False)])
def test_a_last_line_without_an_end_is_noticed(tmp_path: Path, content: bytes, is_open: bool) -> None:
    """The file may be incomplete."""
    file = written(tmp_path, content)
    list(file.pieces())
    assert file.is_open is is_open


def test_a_file_that_cannot_be_read_is_reported(tmp_path: Path) -> None:
    """At once if it cannot be opened, and later if it is damaged or gone."""
    with pytest.raises(FileError, match=r"gone cannot be read: No such file"):
        TextFile(tmp_path / "gone")
    damaged = bytearray(gzip.compress(b"a\n" * 1000))
    damaged[12] ^= 0xFF
    (tmp_path / "damaged").write_bytes(damaged)
    with pytest.raises(FileError, match="damaged cannot be read"):
        list(TextFile(tmp_path / "damaged").pieces())
    file = written(tmp_path, b"a\n")
    file.path.unlink()
    with pytest.raises(FileError, match="file cannot be read"):
        file.head()
