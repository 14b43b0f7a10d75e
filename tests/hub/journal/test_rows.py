"""Rows with checksums: what is read back, what is damaged, and what is kept of it."""

from __future__ import annotations

from collections.abc import Iterator

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.journal import rows
from hub.journal.rows import DamagedRow
from tests.hub.journal.entries import make_mark

SCHEMA = """
CREATE TABLE fact (name TEXT PRIMARY KEY, value ANY NOT NULL, checksum INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE consumer (name TEXT PRIMARY KEY, offset INTEGER NOT NULL, checksum INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE damaged (number INTEGER NOT NULL, slot INTEGER PRIMARY KEY, found_ns INTEGER NOT NULL,
  place TEXT NOT NULL, content BLOB NOT NULL) STRICT;
"""
"""The tables that these tests need, as hub.journal.schema has them."""


@pytest.fixture
def connection() -> Iterator[apsw.Connection]:
    database = apsw.Connection(":memory:")
    database.execute(SCHEMA)
    yield database
    database.close()


@given(
    st.dictionaries(st.text(max_size=20), st.integers(-(2**63), 2**63 - 1), max_size=10),
)
def test_rows_are_read_back(consumers: dict[str, int]) -> None:
    """Any names and numbers, in the order of the names' bytes."""
    database = apsw.Connection(":memory:")
    database.execute(SCHEMA)
    database.execute(rows.WRITE_CONSUMERS, (rows.checked_rows(consumers.items()),))
    assert list(rows.read_rows(database, "consumer")) == sorted(consumers.items(), key=lambda row: row[0].encode())
    database.close()


def test_a_mark_is_read_back() -> None:
    """With its earlier epochs and the offset up to which it is valid."""
    mark = make_mark(9)._replace(damaged=3, repaired=2, quarantined_readings=5, source_refused=4)
    cells = (*mark[:9], rows._json(mark.earlier), 77, *mark[10:])
    assert rows.mark_of(cells) == (mark, 77)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE consumer SET offset = offset + 1 WHERE name = 'store'",
        "UPDATE consumer SET name = 'stord' WHERE name = 'store'",
        "UPDATE consumer SET checksum = checksum + 1 WHERE name = 'store'",
        "UPDATE consumer SET name = CAST(x'737430ff65' AS TEXT) WHERE name = 'store'",
    ],
)
def test_a_changed_row_is_found_and_moved_aside(connection: apsw.Connection, damage: str) -> None:
    """In each of its cells, also if a text is no text any more. The other rows stay, also those behind it."""
    connection.execute(rows.WRITE_CONSUMERS, (rows.checked_rows([("mqtt", 1), ("store", 2), ("webhook", 3)]),))
    connection.execute(damage)
    found = list(rows.read_rows(connection, "consumer"))
    damaged = [row for row in found if isinstance(row, DamagedRow)]
    assert [row for row in found if not isinstance(row, DamagedRow)] == [("mqtt", 1), ("webhook", 3)]
    assert len(damaged) == 1
    rows.set_aside(connection, damaged)
    assert list(rows.read_rows(connection, "consumer")) == [("mqtt", 1), ("webhook", 3)]
    assert connection.execute("SELECT count(*) FROM damaged").get == 1


def test_the_kept_bytes_are_bounded(connection: apsw.Connection) -> None:
    """The newest rows are kept, each cut to its bound."""
    for number in range(rows.KEPT_ROWS + 10):
        connection.execute(*rows.keep_row(f"row {number}", (b"x" * (rows.KEPT_ROW_BYTES + 1),) if number == 70 else ()))
    kept = dict(connection.execute("SELECT place, length(content) FROM damaged"))
    assert set(kept) == {f"row {number}" for number in range(10, rows.KEPT_ROWS + 10)}
    assert kept["row 70"] == rows.KEPT_ROW_BYTES
