"""The layout of the DuckDB file, and the statements that every write uses.

    store           one row: the registry that the series' ids are from, the cursor, and what is needed to open the file
                    again without reading it all
    raw_TYPE        the readings of each metric type, in order of arrival
    series_TYPE     a summary of each series, saved now and then: counts, ends, the newest value, and how many
                    readings a retention deleted

`tail_TYPE` in `store` is the number of rows at the end of raw_TYPE that the saved summaries do not have yet. Readings
reduced to minutes and hours belong beside raw_TYPE as minute_TYPE and hour_TYPE.

Columns have no NOT NULL: nothing here writes NULL, and the check would cost every row.
"""

from __future__ import annotations

from wire.model import MetricType

VERSION = 3
"""Of this layout; a file with another version is refused."""

TYPES: dict[MetricType, str] = {"float": "DOUBLE", "integer": "BIGINT", "boolean": "BOOLEAN", "string": "VARCHAR"}


def raw(type: MetricType) -> str:
    """The table of a type's readings."""
    return f"raw_{type}"


def saved(type: MetricType) -> str:
    """The table of a type's saved summaries."""
    return f"series_{type}"


CREATE = [
    "CREATE TABLE store (version INTEGER, registry VARCHAR, journal VARCHAR, position BIGINT, readings BIGINT, "
    + ", ".join(f"tail_{type} BIGINT" for type in TYPES)
    + ")",
    f"INSERT INTO store VALUES ({VERSION}, '', '', 0, 0, {', '.join('0' for _ in TYPES)})",
    *(f"CREATE TABLE {raw(type)} (series INTEGER, time_ns BIGINT, value {sql})" for type, sql in TYPES.items()),
    *(
        f"CREATE TABLE {saved(type)} (series INTEGER, readings BIGINT, oldest_ns BIGINT, newest_ns BIGINT, "
        f"value {sql}, expired BIGINT)"
        for type, sql in TYPES.items()
    ),
]

READ_VERSION = "SELECT version FROM store"

READ_REGISTRY = "SELECT registry FROM store"

UPDATE_REGISTRY = "UPDATE store SET registry = ?"

READ_CURSOR = "SELECT journal, position FROM store"

READ_STORE = f"SELECT journal, position, readings, {', '.join(f'tail_{type}' for type in TYPES)} FROM store"

READ_ENDS = " UNION ALL ".join(
    f"SELECT min(time_ns) AS oldest_ns, max(time_ns) AS newest_ns FROM raw_{type} HAVING count(*) > 0" for type in TYPES
)

UPDATE_STORE = "UPDATE store SET journal = ?, position = ?, readings = ?, " + ", ".join(
    f"tail_{type} = ?" for type in TYPES
)


def summarise(type: MetricType, where: str) -> str:
    """The summaries of a type's series, computed from readings."""
    return (
        "SELECT series, count(*) AS readings, min(time_ns) AS oldest_ns, max(time_ns) AS newest_ns, "
        f"arg_max(value, time_ns) AS value FROM {raw(type)} {where} GROUP BY series ORDER BY series"
    )
