"""The statements of the DuckDB file, in a database in memory: what rolling up, folding and merging keep."""

from __future__ import annotations

from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.storage.duckdb import schema
from hub.storage.duckdb.schema import CREATE, PIECE, SUM_TYPES, TIERS, TYPES, fold, merge, piece_columns, roll_up, table
from wire.model import MetricType

MINUTE, HOUR = TIERS["minute"], TIERS["hour"]

VALUES: dict[MetricType, st.SearchStrategy[Any]] = {
    "float": st.integers(-1000, 1000).map(float),
    "integer": st.integers(-(2**63), 2**63 - 1),
    "boolean": st.booleans(),
    "string": st.text("ab", max_size=2),
}


def empty_store() -> duckdb.DuckDBPyConnection:
    """Create the tables of an empty store in memory."""
    connection = duckdb.connect()
    for statement in CREATE:
        connection.execute(statement)
    return connection


def expected(
    type: MetricType, readings: list[tuple[int, int, Any]], width: int
) -> dict[tuple[int, int], tuple[Any, ...]]:
    """Return the pieces of these readings by series and begin, computed one by one."""
    buckets: dict[tuple[int, int], list[tuple[int, Any]]] = {}
    for series, time_ns, value in readings:
        buckets.setdefault((series, time_ns - time_ns % width), []).append((time_ns, value))
    pieces = {}
    for key, found in buckets.items():
        found.sort(key=lambda reading: reading[0])
        ends = found[0][1], found[0][0], found[-1][1], found[-1][0]
        values = [value for _, value in found]
        low, high = min(values), max(values)
        low_ns = {time for time, value in found if value == low}
        high_ns = {time for time, value in found if value == high}
        extremes = (sum(values), low, low_ns, high, high_ns) if type in SUM_TYPES else ()
        pieces[key] = (len(found), *extremes, *ends)
    return pieces


def found_pieces(connection: duckdb.DuckDBPyConnection, statement: str) -> dict[tuple[int, int], tuple[Any, ...]]:
    return {(row[0], row[1]): row[2:] for row in connection.execute(statement).fetchall()}


def agree(type: MetricType, found: dict[Any, Any], wanted: dict[Any, Any]) -> None:
    """Assert that the pieces are the wanted ones. The time of an extreme is that of any reading with this value."""
    assert found.keys() == wanted.keys()
    for key, piece in found.items():
        want = wanted[key]
        if type in SUM_TYPES:
            assert piece[3] in want[3]
            assert piece[5] in want[5]
            piece, want = (*piece[:3], piece[4], *piece[6:]), (*want[:3], want[4], *want[6:])
        assert piece == want


@pytest.mark.parametrize("type", TYPES)
@settings(max_examples=10)
@given(data=st.data())
def test_pieces_are_what_the_readings_are(type: MetricType, data: st.DataObject) -> None:
    """Readings rolled up in two steps, merged and folded have the counts, sums, extremes and ends of all of them.

    Times differ within a series, as ingest ensures.
    """
    times = st.integers(0, 3 * HOUR) | st.integers(0, 5) | st.sampled_from([MINUTE - 1, MINUTE, HOUR - 1, HOUR])
    keys = data.draw(st.lists(st.tuples(st.integers(1, 2), times), min_size=1, max_size=12, unique=True))
    readings = [(series, time_ns, data.draw(VALUES[type])) for series, time_ns in keys]
    cut = data.draw(st.integers(0, len(readings)))
    with empty_store() as store:
        store.executemany(f"INSERT INTO {table('raw', type)} VALUES (?, ?, ?)", readings)
        store.execute(roll_up(type), [0, cut - 1])
        store.execute(roll_up(type), [cut, len(readings)])
        agree(type, found_pieces(store, merge("minute", type).format("true")), expected(type, readings, MINUTE))
        store.execute(fold(type), [0, 2**40])
        agree(type, found_pieces(store, merge("hour", type).format("true")), expected(type, readings, HOUR))
        summaries = store.execute(schema.summarise_sql(type, "WHERE series = 1")).fetchall()
        mine = sorted((time_ns, value) for series, time_ns, value in readings if series == 1)
        assert summaries == ([(1, len(mine), mine[0][0], mine[-1][0], mine[-1][1])] if mine else [])


@pytest.mark.parametrize("type", TYPES)
def test_only_types_with_sums_have_sums_and_extremes(type: MetricType) -> None:
    """Texts and booleans have a count and their ends."""
    names = piece_columns(type, lambda column: column.name).split(", ")
    wanted = [column.name for column in PIECE]
    if type not in SUM_TYPES:
        wanted = [name for name in wanted if name.startswith(("readings", "first", "last"))]
    assert names == wanted
    assert "{" not in piece_columns(type, lambda column: f"{column.sql_type} {column.one_reading}")


def test_a_new_store_is_empty() -> None:
    """Its rows of state exist, so that every later statement updates them."""
    connection = empty_store()
    assert connection.execute("SELECT version, registry FROM store").fetchall() == [(schema.VERSION, "")]
    assert connection.execute(schema.READ_STORE).fetchall() == [("", 0, *[0] * 8)]
    assert connection.execute(schema.READ_ENDS).fetchall() == []
    assert sorted(connection.execute(schema.READ_BACKLOG).fetchall()) == sorted((type, 0, 0) for type in TYPES)
    assert len(connection.execute(schema.READ_SOURCES).fetchall()) == len(TYPES)


def test_the_backlog_is_what_no_rollup_has() -> None:
    """Readings that are in no minute, and pieces of minutes that are in no hour, for each type by itself."""
    with empty_store() as store:
        stored = [number for pair in enumerate((50, 60, 70, 80)) for number in pair]
        store.execute(schema.UPDATE_STORE, ["j", 9, *stored])
        store.execute("UPDATE rollup SET rolled = 20, made = 7, folded = 3 WHERE type = 'integer'")
        found = {row[0]: row[1:] for row in store.execute(schema.READ_BACKLOG).fetchall()}
        assert found == dict(zip(TYPES, [(50, 0), (60 - 20, 4), (70, 0), (80, 0)], strict=True))
        assert store.execute(schema.READ_STORE).fetchone() == ("j", 9, *stored)
