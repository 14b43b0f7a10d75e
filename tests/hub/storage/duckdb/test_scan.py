from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.model.batch import Series
from hub.model.store import StoreCursor
from hub.storage.duckdb.database import Database
from hub.storage.duckdb.history import scan_history
from hub.storage.duckdb.tables import Tables
from hub.storage.query import clip_range
from tests.hub.storage.readings import REGISTRY, Reading, batch, entry

SERIES = [Series(id, "device", f"m{id}", "string" if id % 3 == 0 else "integer") for id in range(8)]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "history.duckdb", memory_limit="200MB", threads=1)
    yield database
    database.close()


def test_a_scan_does_not_depend_on_the_memory_limit(database: Database) -> None:
    """Series read together, alone or in pages give the same readings in the same order, also with equal times."""
    tables = Tables(database.writer, registry=REGISTRY)
    expected: dict[int, list[Reading]] = {}
    for offset in range(1, 60):
        series = SERIES[(offset * 5) % 7]
        times = [(offset * 37) % 11, (offset * 53) % 11, 5]
        values = [f"{offset}" * (offset % 9) if series.type == "string" else offset * 10 + place for place in range(3)]
        tables.append([entry(offset, batch(times, {series: values}))], StoreCursor("journal", offset))
        # The readings of one write are in time order.
        brought = sorted(zip(times, values, strict=True), key=lambda reading: reading[0])
        expected.setdefault(series.id, []).extend(brought)
    ordered = {id: sorted(readings, key=lambda reading: reading[0]) for id, readings in expected.items()}

    @settings(max_examples=20)
    @given(st.integers(1, 2000), st.integers(1, 20), st.permutations(SERIES), st.integers(0, 4), st.integers(5, 12))
    def check(max_bytes: int, piece_readings: int, asked: list[Series], start: int, end: int) -> None:
        found: dict[int, list[Reading]] = {}
        with database.reader() as reader:
            for piece in scan_history(
                reader, asked, clip_range(start, end), max_bytes=max_bytes, piece_readings=piece_readings
            ):
                assert 0 < len(piece.times_ns) <= piece_readings
                values: list[Any] = list(piece.values)
                found.setdefault(piece.series.id, []).extend(zip(piece.times_ns.tolist(), values, strict=True))
        inside = {id: [item for item in readings if start <= item[0] < end] for id, readings in ordered.items()}
        assert found == {id: readings for id, readings in inside.items() if readings}
        assert list(found) == [series.id for series in asked if series.id in found]

    check()
