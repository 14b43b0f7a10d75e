"""The layout of the DuckDB file, and the statements that every write uses.

    store           one row: the registry that the series' ids are from, the cursor, and what is needed to open the file
                    again without reading it all
    raw_TYPE        the readings of each metric type, in order of arrival
    series_TYPE     a summary of each series, saved now and then: counts, ends, the newest value, and how many
                    readings a retention deleted
    rollup          a row for each type: how far its rollups are
    tiers           one row: from when on each tier has what was stored, and how far the retentions' clock is
    minute_TYPE     readings rolled up by minute: pieces, each of the readings of one series in one minute that one
                    step rolled up. A minute has more of them where it was rolled up in several steps
    hour_TYPE       the same by hour, rolled up from the pieces of minutes

`tail_TYPE` in `store` is the number of rows at the end of raw_TYPE that the saved summaries do not have yet, and
`stored_TYPE` counts all rows that raw_TYPE ever got. `rolled` in `rollup` says how many of these are in minutes, `made`
how many pieces of minutes there ever were, and `folded` how many of these are in hours. What is not rolled up or folded
yet are always the last rows of its table.

Columns have no NOT NULL: nothing here writes NULL, and the check would cost every row.
"""

from __future__ import annotations

from typing import Literal

from wire.model import MetricType

VERSION = 6
"""Of this layout; a file with another version is refused."""

TYPES: dict[MetricType, str] = {"float": "DOUBLE", "integer": "BIGINT", "boolean": "BOOLEAN", "string": "VARCHAR"}

NUMBERS: dict[MetricType, str] = {"float": "DOUBLE", "integer": "HUGEINT"}
"""The types that have sums and extremes, and their sums' type."""

Tier = Literal["minute", "hour"]

TIERS: dict[Tier, int] = {"minute": 60_000_000_000, "hour": 3_600_000_000_000}
"""The rollups and how long their buckets are, in nanoseconds; buckets begin at multiples of it."""


def raw(type: MetricType) -> str:
    """The table of a type's readings."""
    return f"raw_{type}"


def saved(type: MetricType) -> str:
    """The table of a type's saved summaries."""
    return f"series_{type}"


def rolled(tier: Tier, type: MetricType) -> str:
    """The table of a type's readings rolled up."""
    return f"{tier}_{type}"


def _piece(type: MetricType, sql: str) -> str:
    extremes = f"sum {NUMBERS[type]}, low {sql}, low_ns BIGINT, high {sql}, high_ns BIGINT, " if type in NUMBERS else ""
    return (
        f"series INTEGER, time_ns BIGINT, readings BIGINT, {extremes}"
        f"first {sql}, first_ns BIGINT, last {sql}, last_ns BIGINT"
    )


CREATE = [
    "CREATE TABLE store (version INTEGER, registry VARCHAR, journal VARCHAR, position BIGINT, "
    + ", ".join(f"tail_{type} BIGINT, stored_{type} BIGINT" for type in TYPES)
    + ")",
    f"INSERT INTO store VALUES ({VERSION}, '', '', 0, {', '.join('0, 0' for _ in TYPES)})",
    *(f"CREATE TABLE {raw(type)} (series INTEGER, time_ns BIGINT, value {sql})" for type, sql in TYPES.items()),
    *(
        f"CREATE TABLE {saved(type)} (series INTEGER, readings BIGINT, oldest_ns BIGINT, newest_ns BIGINT, "
        f"value {sql}, expired BIGINT, refused BIGINT)"
        for type, sql in TYPES.items()
    ),
    "CREATE TABLE rollup (type VARCHAR, rolled BIGINT, made BIGINT, folded BIGINT)",
    *(f"INSERT INTO rollup VALUES ('{type}', 0, 0, 0)" for type in TYPES),
    "CREATE TABLE tiers (raw_from_ns BIGINT, minute_from_ns BIGINT, hour_from_ns BIGINT, clock_ns BIGINT)",
    "INSERT INTO tiers VALUES (0, 0, 0, 0)",
    *(f"CREATE TABLE {rolled(tier, type)} ({_piece(type, sql)})" for tier in TIERS for type, sql in TYPES.items()),
]

READ_VERSION = "SELECT version FROM store"

READ_REGISTRY = "SELECT registry FROM store"

UPDATE_REGISTRY = "UPDATE store SET registry = ?"

READ_STORE = "SELECT journal, position, " + ", ".join(f"tail_{type}, stored_{type}" for type in TYPES) + " FROM store"

READ_READINGS = f"SELECT {' + '.join(f'stored_{type}' for type in TYPES)} AS readings FROM store"

READ_ENDS = " UNION ALL ".join(
    f"SELECT min(time_ns) AS oldest_ns, max(time_ns) AS newest_ns FROM raw_{type} HAVING count(*) > 0" for type in TYPES
)

UPDATE_STORE = "UPDATE store SET journal = ?, position = ?, " + ", ".join(
    f"tail_{type} = ?, stored_{type} = ?" for type in TYPES
)

READ_TIERS = "SELECT raw_from_ns, minute_from_ns FROM tiers"

READ_CLOCK = "SELECT clock_ns FROM tiers"

UPDATE_CLOCK = "UPDATE tiers SET clock_ns = ?"

_BEHIND = (
    "CASE type "
    + " ".join(f"WHEN '{type}' THEN stored_{type}" for type in TYPES)
    + " END - rolled AS readings, made - folded AS minutes"
)

READ_BEHIND = f"SELECT type, {_BEHIND} FROM rollup, store"
"""Of each type: rows at the end of raw_TYPE that are not in minutes yet, and of minute_TYPE that are not in hours."""

READ_SOURCES = f"SELECT journal, position, raw_from_ns, minute_from_ns, type, {_BEHIND} FROM store, tiers, rollup"
"""What a query has to know before it begins, in one statement: each costs 0.5 to 1 ms, whatever it reads."""


def summarise(type: MetricType, where: str) -> str:
    """The summaries of a type's series, computed from readings."""
    return (
        "SELECT series, count(*) AS readings, min(time_ns) AS oldest_ns, max(time_ns) AS newest_ns, "
        f"arg_max(value, time_ns) AS value FROM {raw(type)} {where} GROUP BY series ORDER BY series"
    )


def roll_up(type: MetricType) -> str:
    """Pieces of minutes out of the readings from one rowid to another."""
    extremes = (
        "sum(value), min(value), arg_min(time_ns, value), max(value), arg_max(time_ns, value), "
        if type in NUMBERS
        else ""
    )
    return (
        f"INSERT INTO {rolled('minute', type)} SELECT series, {bucket('minute')} AS begin_ns, count(*), {extremes}"
        "arg_min(value, time_ns), min(time_ns), arg_max(value, time_ns), max(time_ns) "
        f"FROM {raw(type)} WHERE rowid BETWEEN ? AND ? GROUP BY series, begin_ns ORDER BY series, begin_ns"
    )


def fold(type: MetricType) -> str:
    """Pieces of hours out of the pieces of minutes from one rowid to another."""
    extremes = (
        "sum(sum), min(low), arg_min(low_ns, low), max(high), arg_max(high_ns, high), " if type in NUMBERS else ""
    )
    return (
        f"INSERT INTO {rolled('hour', type)} SELECT series, {bucket('hour')} AS begin_ns, sum(readings), {extremes}"
        "arg_min(first, first_ns), min(first_ns), arg_max(last, last_ns), max(last_ns) "
        f"FROM {rolled('minute', type)} WHERE rowid BETWEEN ? AND ? GROUP BY series, begin_ns ORDER BY series, begin_ns"
    )


def merge(tier: Tier, type: MetricType) -> str:
    """One piece for each bucket out of those that there are; {} stands for which."""
    extremes = (
        "sum(piece.sum) AS sum, min(piece.low) AS low, arg_min(piece.low_ns, piece.low) AS low_ns, "
        "max(piece.high) AS high, arg_max(piece.high_ns, piece.high) AS high_ns, "
        if type in NUMBERS
        else ""
    )
    return (
        f"SELECT series, time_ns, sum(piece.readings) AS readings, {extremes}"
        "arg_min(piece.first, piece.first_ns) AS first, min(piece.first_ns) AS first_ns, "
        "arg_max(piece.last, piece.last_ns) AS last, max(piece.last_ns) AS last_ns "
        f"FROM {rolled(tier, type)} AS piece WHERE {{}} GROUP BY series, time_ns"
    )


def bucket(tier: Tier) -> str:
    """The begin of the bucket that `time_ns` is in."""
    return f"time_ns - time_ns % {TIERS[tier]}"
