"""The file of rejected lines has exactly these lines, as they are in the source."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from formats.framing import LineFraming
from importer import records
from importer.records import TextFile
from importer.rejects import LineNumbers, copy_lines


def copied(
    path: Path, content: bytes, lines: set[int], *, header: tuple[int, ...] = (), annotated: bool = False,
    encoding: str = "auto",
) -> bytes:  # fmt: skip
    """Return the copy of these lines."""
    path.write_bytes(content)
    numbers = LineNumbers()
    for line in lines:
        numbers.add(line)
    target = path.with_name("rejects")
    copy_lines(TextFile(path), target, numbers, header=header, annotated=annotated, encoding=encoding)
    return target.read_bytes()


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 5)), max_size=10))
def test_line_numbers_are_a_set(added: list[tuple[int, int]]) -> None:
    """It contains the lines that were added, in any order."""
    numbers, expected = LineNumbers(), set()
    for first, count in added:
        numbers.add(first, count)
        expected |= set(range(first, first + count))
    assert {line for line in range(400) if line in numbers} == expected
    assert bool(numbers) is bool(expected)


@given(
    content=st.lists(st.sampled_from([b"a", b"bc", b"\n", b"\r\n", b"\r", b"\xff"]), max_size=20).map(b"".join),
    lines=st.sets(st.integers(1, 12)),
    piece=st.integers(1, 7),
)
def test_lines_have_the_numbers_that_reading_gives_them(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, lines: set[int], piece: int
) -> None:
    """Whatever their ends are, and wherever the file is cut into pieces."""
    framing = LineFraming()
    frames = [*framing.feed(content), *framing.finish()]
    wanted = [frame.raw for frame in frames if frame.line in lines]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "PIECE_BYTES", piece)
        found = copied(tmp_path_factory.getbasetemp() / "source", content, lines)
    assert found.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split() == b"\n".join(wanted).split()


def test_lines_stay_as_they_are_below_the_header(tmp_path: Path) -> None:
    """With their bytes and their ends; the last line gets an end."""
    content = b"\xef\xbb\xbf# old\r\ntime,x\r\n1,a\r\n2,\xff\r\n3,c"
    assert copied(tmp_path / "a.csv", content, {4, 5}, header=(2,)) == b"time,x\r\n2,\xff\r\n3,c\n"
    assert copied(tmp_path / "b.gz", gzip.compress(content), {4}, header=(2,)) == b"time,x\r\n2,\xff\r\n"


@pytest.mark.parametrize(("used", "rule"), [("utf-16", "auto"), ("utf-32", "auto"), ("utf-16-le", "utf-16-le")])
def test_wide_encodings_are_kept(tmp_path: Path, used: str, rule: str) -> None:
    """The copy is read with the same settings."""
    found = copied(tmp_path / "a.csv", "time,Küche\n1,ä\n2,ö\n".encode(used), {3}, header=(1,), encoding=rule)
    assert found.decode(used) == "time,Küche\n2,ö\n"


def test_an_annotated_table_keeps_its_header(tmp_path: Path) -> None:
    """Only tables with a rejected line are in the copy."""
    table = b"#datatype,string,double\r\n,%s,_value\r\n,a,1\r\n,b,x\r\n\r\n"
    content = b"\xef\xbb\xbf" + b"".join(table % name for name in (b"one", b"two", b"three"))
    expected = b"#datatype,string,double\r\n,two,_value\r\n,b,x\r\n"
    assert copied(tmp_path / "a.csv", content, {9}, annotated=True) == expected
