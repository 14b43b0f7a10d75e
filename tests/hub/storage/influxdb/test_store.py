"""The store on real servers, 1.8 and 2.7."""

from __future__ import annotations

import functools
import itertools
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from hub.model.batch import Batch, Series
from hub.model.store import HistoryQuery, ReadingCounts, StoreCursor, StoreUnavailable, WriteResult
from hub.storage.influxdb.line_protocol import MAX_TIME_NS
from hub.storage.influxdb.series_naming import SeriesNaming
from hub.storage.influxdb.state import FILE_NAME
from hub.storage.influxdb.store import InfluxdbStore
from tests.hub.storage.implementations import plain
from tests.hub.storage.influxdb.bucket import store_of
from tests.hub.storage.readings import REGISTRY, batch, entries, exactly
from tests.services.influxdb import Access, InfluxdbServer
from wire.model import MetricType, Value

JOURNAL = "journal-a"
T0 = 1_700_000_000_000_000_000
EVER = (0, 2**63)
NUMBERS = itertools.count(1)

INTEGER = Series(1, "counter", "level", "integer")
FLOAT = Series(2, "gauge", "level", "float")
OTHER = Series(3, "gauge", "temperature", "float")


async def write(store: InfluxdbStore, batches: Sequence[Batch], first: int = 1) -> WriteResult:
    given = entries(batches, first)
    return await store.write(given, StoreCursor(JOURNAL, given[-1].offset))


async def read(store: InfluxdbStore, *series: Series) -> dict[int, list[tuple[int, bytes]]]:
    history = await store.query(HistoryQuery(series, *EVER, None))
    return {id: [(time, exactly(value)) for time, value in part] for id, part in plain(history).items()}


def exact(readings: Sequence[tuple[int, Value]]) -> list[tuple[int, bytes]]:
    return [(time, exactly(value)) for time, value in readings]


async def test_a_type_conflict_costs_the_readings_in_conflict_only(server: InfluxdbServer, tmp_path: Path) -> None:
    """Floats in an integer field are refused with InfluxDB's text; their neighbours in the same points are stored."""
    async with store_of(tmp_path, server.fresh()) as store:
        await store.open()
        assert await write(store, [batch([T0], {INTEGER: [1]})]) == WriteResult(1, [])
        for first in (2, 4):
            times = [T0 + first, T0 + first + 1]
            written = await write(
                store, [batch([time], {FLOAT: [0.5], OTHER: [time / 1e9]}) for time in times], first=first
            )
            assert written.readings == 2
            assert [(item.entry.offset, item.code) for item in written.refused] == [
                (first, "field_conflict"),
                (first + 1, "field_conflict"),
            ]
            for item, time in zip(written.refused, times, strict=True):
                assert 'field type conflict: input field "level"' in item.message
                assert "is type float, already exists as type integer" in item.message
                assert item.batch.times == [time]
                assert [(series.id, values) for series, values in item.batch.columns] == [(FLOAT.id, [0.5])]
        assert (await read(store, INTEGER, FLOAT, OTHER)) == {
            INTEGER.id: exact([(T0, 1)]),
            OTHER.id: exact([(T0 + late, (T0 + late) / 1e9) for late in range(2, 6)]),
        }
        assert await store.counts() == {
            INTEGER.id: ReadingCounts(1, 0, 0),
            FLOAT.id: ReadingCounts(0, 0, 4),
            OTHER.id: ReadingCounts(4, 0, 0),
        }


async def test_one_bad_reading_among_thousands_is_found(server: InfluxdbServer, tmp_path: Path) -> None:
    """All others are stored."""
    series = [Series(10 + place, "dev", f"m{place}", "float") for place in range(8)]
    alien = Series(30, "other", "m3", "integer")
    async with store_of(tmp_path, server.fresh()) as store:
        await store.open()
        await write(store, [batch([T0], {item: [0.5] for item in series})])
        times = [T0 + 10 + place for place in range(500)]
        batches = [batch([time], {item: [1.5] for item in series}) for time in times]
        batches.insert(317, batch([T0 + 5], {alien: [7]}))
        written = await write(store, batches, first=2)
        assert written.readings == 4_000
        (refused,) = written.refused
        assert (refused.entry.offset, refused.code) == (319, "field_conflict")
        assert {id: counts.stored for id, counts in (await store.counts()).items() if counts.stored} == {
            item.id: 501 for item in series
        }
        assert len((await read(store, series[7]))[17]) == 501


async def test_values_and_times_that_influxdb_does_not_have_are_refused(server: InfluxdbServer, tmp_path: Path) -> None:
    """Infinities and the last nanosecond are refused; the other readings of the batch are stored."""
    async with store_of(tmp_path, server.fresh()) as store:
        await store.open()
        given = batch([T0, T0 + 1, 2**63 - 1], {FLOAT: [1.0, float("inf"), 3.0], OTHER: [4.0, None, None]})
        written = await write(store, [given])
        assert written.readings == 2
        assert [(item.code, item.batch.times) for item in written.refused] == [
            ("not_finite", [T0 + 1]),
            ("out_of_range", [2**63 - 1]),
        ]
        assert await read(store, FLOAT, OTHER) == {FLOAT.id: exact([(T0, 1.0)]), OTHER.id: exact([(T0, 4.0)])}
        assert (await write(store, [batch([MAX_TIME_NS], {FLOAT: [9.0]})], first=2)).refused == []


NAMES = st.text(
    st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from(" ,=\"\\'#_/;"), min_size=1, max_size=12
).map(lambda name: name.strip() or "x")

METRICS = st.dictionaries(
    NAMES,
    st.one_of(
        st.tuples(
            st.just("float"),
            st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([-0.0, 5e-324, 1.7976931348623157e308]),
        ),
        st.tuples(st.just("integer"), st.integers(-(2**63), 2**63 - 1) | st.sampled_from([-(2**63), 2**63 - 1])),
        st.tuples(st.just("boolean"), st.booleans()),
        st.tuples(
            st.just("string"),
            st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
            | st.sampled_from(
                ["", '"', "\\", '\\"', "\n", "a\r\nb", ",", "=", " ", "\0", "é" * 32_768, "🙂", "\ufeff"]
            ),
        ),
    ),
    min_size=1,
    max_size=4,
)
TAGS = st.dictionaries(
    NAMES | st.sampled_from(["time", "_field", "device"]), NAMES | st.sampled_from(["", "\n", "\\"]), max_size=3
)
HOSTILE = ["a\\", "a\\_", "time", "time_", "\\,", "\\_,", "a\\ b\\=", "\\\\, x", "#", "_measurement"]


@pytest.mark.deadline(120)
@given(metrics=METRICS, tags=TAGS)
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
async def test_hostile_names_and_values_come_back(
    server: InfluxdbServer, metrics: dict[str, tuple[MetricType, Value]], tags: dict[str, str]
) -> None:
    """Each reading comes back exactly, to the bit; none is refused, lost or changed."""
    # A field has one type in a whole measurement: names of a previous example would conflict.
    number = next(NUMBERS)
    tags = {"type": f"{number}", **tags}
    names = SeriesNaming(tags_of=lambda _: tags)
    series = {
        Series(place, f"device-{number}", f"{name}{type[0]}{name}", type): value
        for place, (name, (type, value)) in enumerate(metrics.items(), 1)
    }
    assert len({names.locate(item) for item in series}) == len(series)
    with tempfile.TemporaryDirectory() as directory:
        async with store_of(Path(directory), bucket_of(server), tags=tags) as store:
            await store.open()
            written = await write(store, [batch([T0], {item: [value] for item, value in series.items()})])
            assert (written.readings, written.refused) == (len(series), [])
            assert await read(store, *series) == {item.id: exact([(T0, value)]) for item, value in series.items()}


async def test_names_that_line_protocol_cannot_express_have_readings(server: InfluxdbServer, tmp_path: Path) -> None:
    """Each has its own field, also beside names that equal its changed name."""
    series = {Series(place, "device", name, "string"): name for place, name in enumerate(HOSTILE, 1)}
    async with store_of(tmp_path, server.fresh(), tags={"a\\": "\\", "time": "x", "type": "#\\,"}) as store:
        await store.open()
        written = await write(store, [batch([T0], {item: [name] for item, name in series.items()})])
        assert (written.readings, written.refused) == (len(HOSTILE), [])
        assert await read(store, *series) == {item.id: exact([(T0, name)]) for item, name in series.items()}


async def test_refused_readings_that_were_not_kept_are_refused_again(server: InfluxdbServer, tmp_path: Path) -> None:
    """`open` shows that the caller could not keep refused readings: written again, they are counted once."""
    infinite = [batch([T0, T0 + 1], {FLOAT: [0.5, float("inf")]})]
    access = server.fresh()
    async with store_of(tmp_path, access) as store:
        assert await store.open() == StoreCursor("", 0)
        for _ in range(2):
            assert len((await write(store, infinite)).refused) == 1
            assert await store.counts() == {FLOAT.id: ReadingCounts(1, 0, 1)}
            assert await store.open() == StoreCursor("", 0)
            assert await store.counts() == {}
        assert len((await write(store, infinite)).refused) == 1
    async with store_of(tmp_path, access) as store:
        assert await store.open() == StoreCursor("", 0)
        await write(store, infinite)
        assert await store.save() == StoreCursor(JOURNAL, 1)
    async with store_of(tmp_path, access) as store:
        assert store.cursor == await store.open() == StoreCursor(JOURNAL, 1)
        assert await store.counts() == {FLOAT.id: ReadingCounts(1, 0, 1)}


async def test_the_state_belongs_to_a_bucket_and_a_registry(server: InfluxdbServer, tmp_path: Path) -> None:
    """Another bucket starts anew. Other registries and damaged files are reported, and nothing is written."""
    access = server.fresh()
    async with store_of(tmp_path, access) as store:
        await store.open()
        await write(store, [batch([T0], {FLOAT: [0.5]})])
    async with store_of(tmp_path, server.fresh()) as store:
        assert await store.open() == StoreCursor("", 0)
    state = tmp_path / FILE_NAME
    content = state.read_bytes()
    foreign = content[:-8].replace(REGISTRY.encode(), b"b" * 32)
    for damaged, words in (
        (foreign + content[-8:-4] + zlib.crc32(foreign).to_bytes(4, "big"), "another registry"),
        (foreign + content[-8:], "checksum is wrong"),
        (b"nonsense", "is damaged"),
    ):
        state.write_bytes(damaged)
        async with store_of(tmp_path, access) as store:
            with pytest.raises(StoreUnavailable, match=words):
                await store.open()
            with pytest.raises(StoreUnavailable, match=words):
                await write(store, [batch([T0], {FLOAT: [0.5]})])
        assert state.read_bytes() == damaged


@functools.cache
def bucket_of(server: InfluxdbServer) -> Access:
    """Return one bucket for all examples."""
    return server.fresh()
