"""Rows of the journal's small tables, each with a checksum: how they are written, verified and set aside.

The checksum is a column of its own, computed in Python: a function inside SQLite would need the interpreter for each
row while a commit runs.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import apsw
import msgspec

from hub.model.batch import Mark
from integrity.checksum import Cell, row_checksum

MARK_COLUMNS = (*Mark._fields[:10], "offset", *Mark._fields[10:])
"""The columns of the mark table before its checksum."""

CHECKED_TABLES: dict[str, tuple[str, ...]] = {
    "fact": ("name", "value"),
    "mark": MARK_COLUMNS,
    "consumer": ("name", "offset"),
    "quarantine": ("offset", "device", "epoch", "seq", "received_ns", "code", "message", "format", "payload"),
    "quarantine_total": ("code", "total"),
}
"""The tables whose rows have a checksum, with the columns that it covers; the first is the key."""

KEPT_ROWS = 64
"""Damaged rows whose bytes are kept for a person. At this bound the oldest are deleted."""

KEPT_ROW_BYTES = 1024 * 1024
"""Bytes that are kept of one damaged row: all of a block, unless it contains a single larger entry."""

WRITE_FACT = "INSERT OR REPLACE INTO fact VALUES (?, ?, ?)"
# One statement for any number of rows: after each statement a busy event loop may keep the thread waiting.
WRITE_MARKS = f"""
INSERT OR REPLACE INTO mark ({", ".join(MARK_COLUMNS)}, checksum)
SELECT {", ".join(f"value ->> {column}" for column in range(len(MARK_COLUMNS) + 1))} FROM json_each(?)"""
_CHECKED_ROWS = "SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each(?)"
WRITE_CONSUMERS = f"INSERT OR REPLACE INTO consumer {_CHECKED_ROWS}"
WRITE_QUARANTINE_TOTALS = f"INSERT OR REPLACE INTO quarantine_total {_CHECKED_ROWS}"
INSERT_QUARANTINE = "INSERT INTO quarantine VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"

_KEEP_ROW = f"""
INSERT OR REPLACE INTO damaged
SELECT (SELECT coalesce(max(number), 0) FROM damaged) + 1, (SELECT coalesce(max(number), 0) FROM damaged) % {KEPT_ROWS},
  ?, ?, ?"""

_encode = msgspec.msgpack.Encoder().encode
_decode_earlier = msgspec.json.Decoder(tuple[tuple[str, int], ...]).decode


class DamagedRow(NamedTuple):
    """A row whose checksum is wrong."""

    table: str
    cells: tuple[Any, ...]

    def __str__(self) -> str:
        """Return where it was."""
        return f"{self.table} {self.cells[0]!r}"


def checked(cells: Sequence[Cell]) -> tuple[Cell, ...]:
    """Return a row with its checksum."""
    return (*cells, row_checksum(cells))


def checked_rows(rows: Iterable[Sequence[Cell]]) -> str:
    """Return the argument of WRITE_CONSUMERS, WRITE_QUARANTINE_TOTALS or WRITE_MARKS for rows without checksums."""
    return _json([checked(row) for row in rows])


def mark_rows(marks: Iterable[Mark], offset: int) -> str:
    """Return the argument of WRITE_MARKS: marks that are valid up to this offset."""
    return _json([checked((*mark[:9], _json(mark.earlier), offset, *mark[10:])) for mark in marks])


def write_fact(name: str, value: int | str) -> tuple[str, tuple[Cell, ...]]:
    """Return the statement that writes a fact."""
    return WRITE_FACT, checked((name, value))


def mark_of(row: Sequence[Any]) -> tuple[Mark, int]:
    """Return the mark in a row, and the offset up to which it is valid."""
    earlier, offset, *later = row[9:]
    return Mark._make([*row[:9], _decode_earlier(earlier), *later]), offset


def read_rows(connection: apsw.Connection, table: str, *, order: str = "ASC") -> Iterator[tuple[Any, ...] | DamagedRow]:
    """Yield the rows of a table, in this order of their keys, without their checksums. Raises apsw.Error.

    A column that an older version does not have is 0.
    """
    present = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
    columns = tuple(column for column in CHECKED_TABLES[table] if column in present)
    after: list[Any] = []
    try:
        sql = f"SELECT {', '.join(columns)}, checksum FROM {table} ORDER BY {columns[0]} {order}"
        for row in connection.execute(sql):
            yield _verified(table, row)
            after = [row[0]]
    except UnicodeDecodeError:
        # A damaged text. Read the rest as bytes, and decode each cell by itself.
        yield from _read_bytes(connection, table, columns, after, order)


def set_aside(connection: apsw.Connection, rows: Iterable[DamagedRow]) -> None:
    """Move damaged rows out of their tables; their bytes are kept within bounds. Inside a transaction."""
    for row in rows:
        connection.execute(*keep_row(str(row), row.cells))
        # The key may be damaged as well, and is compared as SQLite has it.
        key = CHECKED_TABLES[row.table][0]
        connection.execute(f"DELETE FROM {row.table} WHERE {key} IS ?", (row.cells[0],))
        connection.execute(f"DELETE FROM {row.table} WHERE CAST({key} AS BLOB) IS ?", (row.cells[0],))


def keep_row(place: str, cells: Sequence[Any]) -> tuple[str, tuple[Cell, ...]]:
    """Return the statement that keeps the bytes of a damaged row, cut to KEPT_ROW_BYTES, in the place of the oldest."""
    return _KEEP_ROW, (time.time_ns(), place, _encode(list(cells))[:KEPT_ROW_BYTES])


def _verified(table: str, row: Sequence[Any]) -> tuple[Any, ...] | DamagedRow:
    cells = tuple(row[:-1])
    if row_checksum(cells) != row[-1]:
        return DamagedRow(table, cells)
    return (*cells, *[0] * (len(CHECKED_TABLES[table]) - len(cells)))


def _read_bytes(
    connection: apsw.Connection, table: str, columns: Sequence[str], after: Sequence[Any], order: str
) -> Iterator[tuple[Any, ...] | DamagedRow]:
    cells = ", ".join(f"typeof({column}), CAST({column} AS BLOB)" for column in columns)
    behind = f"WHERE {columns[0]} {'>' if order == 'ASC' else '<'} ?" if after else ""
    sql = f"SELECT {cells}, checksum FROM {table} {behind} ORDER BY {columns[0]} {order}"
    for *pairs, checksum in connection.execute(sql, after):
        row = [_cell(kind, data) for kind, data in zip(pairs[::2], pairs[1::2], strict=True)]
        yield _verified(table, (*row, checksum))


def _cell(kind: str, data: bytes | None) -> Cell:
    """Return the value of a cell; bytes for a text that is no text."""
    try:
        if kind == "text" and data is not None:
            return data.decode()
        if kind == "integer" and data is not None:
            return int(data)
    except (UnicodeDecodeError, ValueError):
        pass
    return data


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
