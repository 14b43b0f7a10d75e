"""A block of lines of plain numbers has exactly the rows of its lines."""

from __future__ import annotations

from datetime import UTC
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formats.block import BlockReader
from formats.reading import Reading
from formats.rules import rules_of
from tests.formats.reading_of import NOW_NS, read

CELLS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.integers(-(10**20), 10**20).map(str),
    st.sampled_from(["1.234", "+5", ".5", "5.", "007", "nan", "", " 1.5 ", "on", "1e400", "-0", "1,5", "12.5 V", "#x"]),
)
NUMBERS = st.floats(-1e6, 1e6).map(repr)


def lines_of(cells: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(st.tuples(cells, cells, cells), min_size=1, max_size=8).map(
        lambda rows: "".join(";".join(row) + "\n" for row in rows)
    )


@given(st.lists(st.one_of(lines_of(NUMBERS), lines_of(CELLS)), max_size=6), st.sampled_from(["\n", "\r\n"]))
@settings(deadline=None)
def test_blocks_and_lines_give_the_same(parts: list[str], end: str) -> None:
    """Whatever is between the numbers: the file in one piece, in parts, and byte by byte."""
    head = "a;b;c\n" + "1.5;2.5;3.5\n" * 3
    raw = (head + "".join(parts)).replace("\n", end).encode()
    rules: dict[str, Any] = {"format": "csv", "delimiter": ";"}
    whole, bytewise = read(raw, window=3, **rules), read(raw, window=3, piece=1, **rules)
    parted = read(raw, window=3, piece=len(head), **rules)
    assert whole.rows == bytewise.rows == parted.rows
    assert whole.refusals == bytewise.refusals == parted.refusals
    assert whole.reading.interpreter.readings == bytewise.reading.interpreter.readings
    assert whole.reading.lines == bytewise.reading.lines == parted.reading.lines


def test_numbers_behind_the_first_lines_are_a_block() -> None:
    """Its columns are lists, and its line is that of its first row."""
    reading = Reading(rules_of({"device": "d-1"}), UTC, window=3)
    assert len(reading.feed(b"a,b\n1.5,2.5\n1.5,2.5\n", NOW_NS).rows) == 2
    block = reading.feed(b"3.5,4\n5,6.5\n7", NOW_NS).blocks[0]
    assert (block.line, block.device, block.columns) == (4, "d-1", {"a": [3.5, 5.0], "b": [4.0, 6.5]})
    rest = reading.feed(b".5,8\n9,\n", NOW_NS)
    assert (rest.blocks, [row.values for row in rest.rows]) == ((), [{"a": 7.5, "b": 8.0}, {"a": 9.0}])


@pytest.mark.parametrize("head", ["a,time\n1.5,1795878000\n", "a,b\n1,2\n", "device,a\nx,1.5\n", "a,b\nidle,2.5\n"])
def test_a_table_with_other_columns_has_no_blocks(head: str) -> None:
    """Devices, texts and times behind a value are read line by line, and so are numbers without a decimal mark before
    them."""
    reading = Reading(rules_of({"format": "csv"}), UTC, window=2)
    reading.feed(head.encode(), NOW_NS)
    assert reading.feed(b"1795878001,2.5\n", NOW_NS).blocks == ()


@pytest.mark.parametrize(
    "raw", [b"", b"1,2", b"1\n", b"1,2\n\n", b"1,2\r3,4\n", b"1,x\n", b"1,01\n", b"1e400,1\n", b"1,,\n"]
)
def test_other_bytes_are_no_block(raw: bytes) -> None:
    """The caller reads them line by line."""
    assert BlockReader(",", "", ["a", "b"]).read(raw, 1, 100) is None


def test_a_line_that_is_too_long_is_no_block() -> None:
    """It is refused as in other formats."""
    long = b"0." + b"1" * 200 + b",1\n"
    assert BlockReader(",", "", ["a", "b"]).read(long, 1, 100) is None
    assert BlockReader(",", "", ["a", None]).read(long, 1, 300) is not None


@pytest.mark.parametrize("delimiter", [",", ";", "\t", " "])
def test_a_block_has_any_delimiter(delimiter: str) -> None:
    """The columns are the same as with commas."""
    raw = b"1.5,2\n-3,4e2\n".replace(b",", delimiter.encode())
    block = BlockReader(delimiter, "", ["a", "b"]).read(raw, 1, 100)
    assert block is not None
    assert block.columns == {"a": [1.5, -3.0], "b": [2.0, 400.0]}
