from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.model.batch import Series
from hub.model.store import StoreCursor
from hub.storage.duckdb.answer import range_of
from hub.storage.duckdb.database import Database
from hub.storage.duckdb.scan import scan_history
from hub.storage.duckdb.tables import Tables
from tests.hub.storage.readings import REGISTRY, Reading, batch, entry

SERIES = [Series(id, "device", f"m{id}", "string" if id % 3 == 0 else "integer") for id in range(8)]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "history.duckdb", memory_limit="200MB", threads=1)
    yield database
    database.close()


def test_however_much_fits_into_memory_the_answer_is_the_same(database: Database) -> None:
    """Series that are read together, alone, or by pages: the same readings in the same order, equal times too."""
    tables = Tables(database.writer, registry=REGISTRY)
    expected: dict[int, list[Reading]] = {}
    for offset in range(1, 60):
        series = SERIES[(offset * 5) % 7]
        times = [(offset * 37) % 11, (offset * 53) % 11, 5]
        values = [f"{offset}" * (offset % 9) if series.type == "string" else offset * 10 + place for place in range(3)]
        tables.append([entry(offset, batch(times, {series: values}))], StoreCursor("journal", offset))
        # What one write brings is in order of time.
        brought = sorted(zip(times, values, strict=True), key=lambda reading: reading[0])
        expected.setdefault(series.id, []).extend(brought)
    ordered = {id: sorted(readings, key=lambda reading: reading[0]) for id, readings in expected.items()}

    @settings(max_examples=20)
    @given(st.integers(1, 2000), st.integers(1, 20), st.permutations(SERIES), st.integers(0, 4), st.integers(5, 12))
    def check(max_bytes: int, most: int, asked: list[Series], start: int, end: int) -> None:
        found: dict[int, list[Reading]] = {}
        with database.reader() as reader:
            for piece in scan_history(reader, asked, range_of(start, end), max_bytes=max_bytes, most=most):
                assert 0 < len(piece.times_ns) <= most
                values: list[Any] = list(piece.values)
                found.setdefault(piece.series.id, []).extend(zip(piece.times_ns.tolist(), values, strict=True))
        inside = {id: [one for one in readings if start <= one[0] < end] for id, readings in ordered.items()}
        assert found == {id: readings for id, readings in inside.items() if readings}
        assert list(found) == [series.id for series in asked if series.id in found]

    check()
