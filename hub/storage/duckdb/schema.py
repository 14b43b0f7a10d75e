"""The layout of the DuckDB file, and the statements that every write uses.

    store           one row: the registry that assigned the series ids, the cursor, and what is needed to open the file
                    without reading all of it
    raw_TYPE        the readings of each metric type, in order of arrival
    series_TYPE     a summary of each series, saved from time to time: counts, ends, the newest value, and the number of
                    readings that a retention deleted
    rollup          a row for each type: how far its rollups are
    tiers           one row: the time from which each tier still has its data, and the time the retentions have reached
    minute_TYPE     readings rolled up by minute, as pieces. A piece contains the readings of one series in one minute
                    that one step rolled up. A minute has several pieces if several steps rolled it up
    hour_TYPE       the same by hour, rolled up from the pieces of minutes

`tail_TYPE` in `store` is the number of rows at the end of raw_TYPE that the saved summaries do not cover yet, and
`stored_TYPE` counts all rows ever added to raw_TYPE. `rolled` in `rollup` is the number of these in minutes, `made` the
number of pieces of minutes ever added, and `folded` the number of these in hours. Rows that are not rolled up or folded
yet are always the last rows of their table.

Columns have no NOT NULL: nothing here writes NULL, and the check would cost time for every row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from wire.model import MetricType

VERSION = 6
"""Version of this layout. A file with another version is rejected."""

TYPES: dict[MetricType, str] = {"float": "DOUBLE", "integer": "BIGINT", "boolean": "BOOLEAN", "string": "VARCHAR"}
"""The SQL type of the values of each metric type."""

SUM_TYPES: dict[MetricType, str] = {"float": "DOUBLE", "integer": "HUGEINT"}
"""The SQL type of the sums of each metric type that has sums and extremes."""


class PieceColumn(NamedTuple):
    """A column of a rollup's pieces: its SQL type, and its value for one reading, of many readings and of many pieces.

    {value} and {sum} stand for the SQL types of the metric type.
    """

    name: str
    sql_type: str
    one_reading: str
    readings: str
    pieces: str


PIECE = (
    PieceColumn("readings", "BIGINT", "1", "count(*)", "sum(readings)"),
    PieceColumn("sum", "{sum}", "value::{sum}", "sum(value)", "sum(piece.sum)"),
    PieceColumn("low", "{value}", "value", "min(value)", "min(low)"),
    PieceColumn("low_ns", "BIGINT", "time_ns", "arg_min(time_ns, value)", "arg_min(low_ns, low)"),
    PieceColumn("high", "{value}", "value", "max(value)", "max(high)"),
    PieceColumn("high_ns", "BIGINT", "time_ns", "arg_max(time_ns, value)", "arg_max(high_ns, high)"),
    PieceColumn("first", "{value}", "value", "arg_min(value, time_ns)", "arg_min(piece.first, first_ns)"),
    PieceColumn("first_ns", "BIGINT", "time_ns", "min(time_ns)", "min(first_ns)"),
    PieceColumn("last", "{value}", "value", "arg_max(value, time_ns)", "arg_max(piece.last, last_ns)"),
    PieceColumn("last_ns", "BIGINT", "time_ns", "max(time_ns)", "max(last_ns)"),
)
"""The columns of a piece after `series` and `time_ns`. Only types with sums have a sum and extremes."""

Tier = Literal["minute", "hour"]

Resolution = Literal["raw", "minute", "hour"]

RESOLUTIONS: tuple[Resolution, ...] = ("raw", "minute", "hour")
"""The contents of a table, from fine to coarse. Relations contain the position here."""

TIERS: dict[Tier, int] = {"minute": 60_000_000_000, "hour": 3_600_000_000_000}
"""The length in nanoseconds of the buckets of each rollup. Buckets begin at multiples of it."""


def table(resolution: Resolution, type: MetricType) -> str:
    """Return the table of a type's readings, or of a rollup of them."""
    return f"{resolution}_{type}"


def readings(types: Sequence[MetricType]) -> str:
    """Return the relation (series, time_ns, value, row) of the readings of these types, as values of the first one.

    `row` is a number of its own for each reading; within a type it has the order of arrival.
    """
    count = len(types)
    return " UNION ALL ".join(
        f"SELECT series, time_ns, value, rowid * {count} + {number} AS row FROM {table('raw', type)}"
        for number, type in enumerate(types)
    )


def times(types: Sequence[MetricType]) -> str:
    """Return the relation (series, time_ns) of the readings of these types."""
    return " UNION ALL ".join(f"SELECT series, time_ns FROM {table('raw', type)}" for type in types)


def summary_table(type: MetricType) -> str:
    """Return the table of a type's saved summaries."""
    return f"series_{type}"


def piece_columns(type: MetricType, expression: Callable[[PieceColumn], str]) -> str:
    """Return an SQL expression for each column of the pieces of a metric type."""
    has_extremes = type in SUM_TYPES
    columns = (column for column in PIECE if has_extremes or not column.name.startswith(("sum", "low", "high")))
    return ", ".join(map(expression, columns)).format(value=TYPES[type], sum=SUM_TYPES.get(type))


CREATE = [
    "CREATE TABLE store (version INTEGER, registry VARCHAR, journal VARCHAR, position BIGINT, "
    + ", ".join(f"tail_{type} BIGINT, stored_{type} BIGINT" for type in TYPES)
    + ")",
    f"INSERT INTO store VALUES ({VERSION}, '', '', 0, {', '.join('0, 0' for _ in TYPES)})",
    *(
        f"CREATE TABLE {table('raw', type)} (series INTEGER, time_ns BIGINT, value {sql})"
        for type, sql in TYPES.items()
    ),
    *(
        f"CREATE TABLE {summary_table(type)} (series INTEGER, readings BIGINT, oldest_ns BIGINT, newest_ns BIGINT, "
        f"value {sql}, expired BIGINT, refused BIGINT)"
        for type, sql in TYPES.items()
    ),
    "CREATE TABLE rollup (type VARCHAR, rolled BIGINT, made BIGINT, folded BIGINT)",
    *(f"INSERT INTO rollup VALUES ('{type}', 0, 0, 0)" for type in TYPES),
    "CREATE TABLE tiers (raw_from_ns BIGINT, minute_from_ns BIGINT, hour_from_ns BIGINT, clock_ns BIGINT)",
    "INSERT INTO tiers VALUES (0, 0, 0, 0)",
    *(
        f"CREATE TABLE {table(tier, type)} (series INTEGER, time_ns BIGINT, "
        f"{piece_columns(type, lambda column: f'{column.name} {column.sql_type}')})"
        for tier in TIERS
        for type in TYPES
    ),
]

READ_STORE = "SELECT journal, position, " + ", ".join(f"tail_{type}, stored_{type}" for type in TYPES) + " FROM store"

READ_ENDS = " UNION ALL ".join(
    f"SELECT min(time_ns) AS oldest_ns, max(time_ns) AS newest_ns FROM raw_{type} HAVING count(*) > 0" for type in TYPES
)

UPDATE_STORE = "UPDATE store SET journal = ?, position = ?, " + ", ".join(
    f"tail_{type} = ?, stored_{type} = ?" for type in TYPES
)

_BACKLOG = (
    "CASE type "
    + " ".join(f"WHEN '{type}' THEN stored_{type}" for type in TYPES)
    + " END - rolled AS readings, made - folded AS minutes"
)

READ_BACKLOG = f"SELECT type, {_BACKLOG} FROM rollup, store"
"""For each type: the rows at the end of raw_TYPE that are not in minutes yet, and of minute_TYPE that are not in hours.
"""

READ_SOURCES = f"SELECT journal, position, raw_from_ns, minute_from_ns, type, {_BACKLOG} FROM store, tiers, rollup"
"""Everything that a query needs before it begins, in one statement: each statement costs 0.5 to 1 ms, whatever it
reads."""


def summarise_sql(type: MetricType, where: str) -> str:
    """Return the query of the summaries of a type's series, computed from readings."""
    return (
        "SELECT series, count(*) AS readings, min(time_ns) AS oldest_ns, max(time_ns) AS newest_ns, "
        f"arg_max(value, time_ns) AS value FROM {table('raw', type)} {where} GROUP BY series ORDER BY series"
    )


def roll_up(type: MetricType) -> str:
    """Return the statement that makes pieces of minutes from the readings between two rowids."""
    return (
        f"INSERT INTO {table('minute', type)} SELECT series, {bucket('minute')} AS begin_ns, "
        f"{piece_columns(type, lambda column: column.readings)} "
        f"FROM {table('raw', type)} WHERE rowid BETWEEN ? AND ? GROUP BY series, begin_ns ORDER BY series, begin_ns"
    )


def fold(type: MetricType) -> str:
    """Return the statement that makes pieces of hours from the pieces of minutes between two rowids."""
    pieces = merge("minute", type, begin=bucket("hour")).format("rowid BETWEEN ? AND ?")
    return f"INSERT INTO {table('hour', type)} {pieces} ORDER BY series, begin_ns"


def merge(tier: Tier, type: MetricType, *, begin: str = "time_ns") -> str:
    """Return the query that merges the pieces with the same begin into one. {} stands for the condition."""
    return (
        f"SELECT series, {begin} AS begin_ns, {piece_columns(type, lambda column: column.pieces)} "
        f"FROM {table(tier, type)} AS piece WHERE {{}} GROUP BY series, begin_ns"
    )


def bucket(tier: Tier) -> str:
    """Return the expression for the begin of the bucket of `time_ns`."""
    return f"time_ns - time_ns % {TIERS[tier]}"
