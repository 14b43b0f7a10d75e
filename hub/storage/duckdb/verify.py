"""Verification of DuckDB's file: every block is read once, in parts, and DuckDB compares its checksum."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import duckdb

from hub.model.store import StoreCursor, StorePart
from hub.storage.duckdb import schema
from hub.storage.duckdb.database import LOCAL, explain
from hub.storage.query import Array
from integrity.finding import Finding
from wire.model import MetricType
from wire.text import plural

PART_ROWS = 4_000_000
"""Rows of one part: 0.5 s of a reader's thread, so that a query waits no longer for it."""

_TABLE_SHIFT = 40
"""Bits of a position for the rowid in its table."""

_TABLES = (
    "store",
    "rollup",
    "tiers",
    *(schema.summary_table(type) for type in schema.TYPES),
    *(schema.table(resolution, type) for resolution in schema.RESOLUTIONS for type in schema.TYPES),
)

_MEANING = (
    "queries that read the damaged range fail, and the history in it is lost without a copy",
    (
        "stop the hub and run `hub store rebuild`, with `--from FOLDER/history.duckdb` if there is a backup: it keeps "
        "what is intact in the file, the backup and the journal"
    ),
)

_READ_ROWS = "SELECT bit_xor(hash(part)) FROM {} AS part WHERE rowid BETWEEN ? AND ?"
_SERIES = " UNION ".join(
    f"SELECT DISTINCT series, '{type}' FROM {table}"
    for type in schema.TYPES
    for table in (schema.summary_table(type), schema.table("raw", type))
)


Fetch = Callable[..., Mapping[str, Array]]
"""Runs a query with its parameters and returns the columns."""


class StoreFacts(NamedTuple):
    """Facts about a file for the comparison with the others: registry, cursor, and its series with the types of their
    readings."""

    registry: str
    cursor: StoreCursor
    series: frozenset[tuple[int, MetricType]]


def verify_part(fetch: Fetch, position: int) -> StorePart:
    """Read rows from this position on until PART_ROWS are read, or a damage is found. The first position is 0."""
    totals = [_number(fetch, f"SELECT count(*) AS number FROM {table}") for table in _TABLES]
    index, first = divmod(position, 1 << _TABLE_SHIFT)
    rows, problem = 0, None
    while index < len(_TABLES) and rows < PART_ROWS and problem is None:
        table = _TABLES[index]
        try:
            # The hash needs every column of every row; a count alone would be answered from statistics.
            fetch(_READ_ROWS.format(table), first, first + PART_ROWS - 1)
            last = _number(fetch, f"SELECT coalesce(max(rowid), -1) AS number FROM {table}")
        except duckdb.InterruptException:
            raise
        except duckdb.Error as error:
            problem = f"{table} from row {first}: {str(error).partition(chr(10))[0]}"
            last = totals[index]
        rows += min(PART_ROWS, totals[index])
        index, first = (index, first + PART_ROWS) if first + PART_ROWS <= last else (index + 1, 0)
    verified = sum(totals[:index]) + (min(totals[index], first) if index < len(_TABLES) else 0)
    following = (index << _TABLE_SHIFT) + first if index < len(_TABLES) else None
    return StorePart(following, verified, sum(totals), problem)


def verify_file(path: Path, report: Callable[[float], None]) -> tuple[list[Finding], StoreFacts | None]:
    """Verify a file that no hub has open. `report` receives the share that is verified, from 0 to 1.

    The file is not changed: its write-ahead log is read as a hub would read it at its start.
    """
    try:
        connection = duckdb.connect(path, read_only=True, config=LOCAL)
    except (duckdb.Error, OSError) as error:
        problem = str(explain(error, path))
        if "in use by another process" in problem:
            return [Finding(path.name, None, problem)], None
        return [damage(path.name, problem)], None
    findings: list[Finding] = []
    facts, rows = None, 0

    def fetch(sql: str, *parameters: object) -> dict[str, Array]:
        columns: dict[str, Array] = connection.execute(sql, parameters).fetchnumpy()
        return columns

    with contextlib.closing(connection):
        try:
            position: int | None = 0
            while position is not None:
                part = verify_part(fetch, position)
                position, rows = part.next, part.total
                if part.problem is not None:
                    findings.append(damage(path.name, part.problem))
                report(part.verified / max(1, part.total))
            facts = _read_facts(connection)
        except duckdb.Error as error:
            findings.append(damage(path.name, str(error).partition("\n")[0]))
    return findings or [intact(path.name, rows)], facts


def intact(name: str, rows: int) -> Finding:
    """Return the finding for an intact file."""
    return Finding(name, True, f"{plural(rows, 'row')} in all tables can be read")


def damage(name: str, what: str) -> Finding:
    """Return the finding for a damaged part of a file."""
    return Finding(name, False, what, *_MEANING)


def _read_facts(connection: duckdb.DuckDBPyConnection) -> StoreFacts:
    ((registry, journal, position),) = connection.execute("SELECT registry, journal, position FROM store").fetchall()
    series = frozenset(connection.execute(_SERIES).fetchall())
    return StoreFacts(registry, StoreCursor(journal, position), series)


def _number(fetch: Fetch, sql: str) -> int:
    return int(fetch(sql)["number"][0])
