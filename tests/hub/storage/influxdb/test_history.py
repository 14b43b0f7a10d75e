"""History of real InfluxDB servers, beyond the store's contract."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest

from hub.model.batch import Series
from hub.model.store import Aggregate, HistoryQuery, StoreUnavailable
from hub.storage.influxdb import history
from hub.storage.influxdb.client import AnswerTooLarge
from hub.storage.influxdb.history import HistoryReader
from hub.storage.influxdb.line_protocol import value_text
from hub.storage.influxdb.series_naming import SeriesNaming
from tests.hub.storage.influxdb.bucket import client_of
from tests.services.influxdb import Access, InfluxdbServer
from wire.model import Value

SERIES = [
    Series(1, "one", "level", "float"),
    Series(2, "one", "count", "integer"),
    Series(3, "one", "open", "boolean"),
    Series(4, "one", "device", "string"),
    Series(5, "other", "level", "float"),
]
NUMBERS = [item for item in SERIES if item.type in ("float", "integer")]
NOBODY = Series(6, "nobody", "level", "float")
EVER = (0, 2**63)
RANGES = [EVER, (100, 3_000), (-5, 50), (3_990, 9_000), (5_000, 6_000), (-1_000_000, 4_000)]
LAST_NS = 4_000

Readings = dict[int, Value]


class Moved(NamedTuple):
    """A bucket in which devices changed their type and site over time."""

    access: Access
    truth: dict[int, Readings]


@pytest.fixture(scope="module")
async def moved(server: InfluxdbServer) -> Moved:
    draw = random.Random(1)
    values: dict[str, Callable[[], Value]] = {
        "float": lambda: draw.uniform(-5, 5),
        "integer": lambda: draw.randint(-(2**63), 2**63 - 1),
        "boolean": lambda: draw.random() < 0.5,
        "string": lambda: draw.choice("abc"),
    }
    truth: dict[int, Readings] = {item.id: {} for item in SERIES}
    lines = []
    for time in range(0, LAST_NS, 7):
        for item in SERIES:
            if draw.random() < 0.7:
                value = truth[item.id][time] = values[item.type]()
                place = f"{draw.choice(['pump', 'valve'])},device={item.device},site={draw.choice('xyz')}"
                lines.append(f"{place} {item.metric}={value_text(item.type, value)} {time}")
    access = server.fresh()
    async with client_of(access) as written_to:
        await written_to.write("\n".join(lines).encode())
    return Moved(access, truth)


@asynccontextmanager
async def reading_of(access: Access, tags: Mapping[str, str] | None = None) -> AsyncIterator[HistoryReader]:
    """Open a reader of a bucket; these are the tags that every device reports now."""
    async with client_of(access) as server:
        yield HistoryReader(server, SeriesNaming(tags_of=lambda _: tags or {}))


async def ask(reading: HistoryReader, query: HistoryQuery) -> dict[int, list[tuple[int, Any]]]:
    """Return the answer's readings by series id."""
    return {part.series.id: rows(part.times_ns, part.values) for part in await reading.query(query)}


def rows(times_ns: Any, values: Any) -> list[tuple[int, Any]]:
    return list(zip(times_ns.tolist(), values if isinstance(values, list) else values.tolist(), strict=True))


def inside(readings: Readings, query: HistoryQuery) -> list[tuple[int, Any]]:
    return [(time, value) for time, value in sorted(readings.items()) if query.start_ns <= time < query.end_ns]


@pytest.mark.parametrize("points", [None, 2, 3, 5, 50, 1_000])
async def test_a_device_that_changed_its_tags_has_one_history(moved: Moved, points: int | None) -> None:
    """Its points are in several measurements, each with several tags. They come in time order, and reduced as if they
    had always been in one place."""
    async with reading_of(moved.access, {"type": "pump"}) as reading:
        for start, end in RANGES:
            query = HistoryQuery([*SERIES, NOBODY], start, end, points)
            found = await ask(reading, query)
            assert found[NOBODY.id] == []
            for item in SERIES:
                readings, part = inside(moved.truth[item.id], query), found[item.id]
                if points is None or len(readings) <= points:
                    assert part == readings
                    continue
                assert len(part) <= points
                assert set(part) <= set(readings)
                if item in NUMBERS:
                    assert {min(value for _, value in part), max(value for _, value in part)} == {
                        min(value for _, value in readings),
                        max(value for _, value in readings),
                    }
                if points >= 4 or item not in NUMBERS:
                    assert (part[0], part[-1]) == (readings[0], readings[-1])


OF_INTERVAL: dict[Aggregate, Callable[[list[Any]], Any]] = {
    "avg": lambda values: sum(map(float, values)) / len(values),
    "min": min,
    "max": max,
    "first": lambda values: values[0],
    "last": lambda values: values[-1],
    "count": len,
}


@pytest.mark.parametrize("aggregate", sorted(OF_INTERVAL))
async def test_an_aggregate_covers_all_measurements(moved: Moved, aggregate: Aggregate) -> None:
    """An interval is computed from the readings of all measurements, also of the largest integers."""
    async with reading_of(moved.access) as reading:
        for start, end in RANGES:
            for points in (2, 7, 50):
                series = NUMBERS if aggregate in ("avg", "min", "max") else SERIES
                query = HistoryQuery(series, start, end, points, aggregate)
                found = await ask(reading, query)
                width = -((start - end) // points)
                for item in series:
                    intervals: dict[int, list[Any]] = {}
                    for time, value in inside(moved.truth[item.id], query):
                        intervals.setdefault(start + (time - start) // width * width, []).append(value)
                    expected = [(begin, OF_INTERVAL[aggregate](values)) for begin, values in intervals.items()]
                    if aggregate == "avg":
                        assert [begin for begin, _ in found[item.id]] == list(intervals)
                        averages = [average for _, average in expected]
                        assert [value for _, value in found[item.id]] == pytest.approx(averages, rel=1e-9, abs=2048)
                    else:
                        assert found[item.id] == expected


async def test_the_newest_reading_is_the_newest_of_all_measurements(moved: Moved) -> None:
    """It does not depend on the device's tags at that time."""
    async with reading_of(moved.access) as reading:
        latest = await reading.latest([*SERIES, NOBODY])
    assert {id: tuple(newest) for id, newest in latest.items()} == {
        id: max(readings.items()) for id, readings in moved.truth.items()
    }


@pytest.mark.parametrize("size", [1, 13, 16_384])
async def test_a_scan_has_every_reading_for_any_page_size(
    moved: Moved, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages end where the slowest of the measurements ends, and the next begins there."""
    monkeypatch.setattr(history, "PAGE_READINGS", size)
    found: dict[int, list[tuple[int, Any]]] = {}
    query = HistoryQuery(SERIES[:1] if size == 1 else SERIES, 50, 450, None)
    async with reading_of(moved.access) as scanned:
        async for piece in scanned.scan(*query[:3]):
            found.setdefault(piece.series.id, []).extend(rows(piece.times_ns, piece.values))
    assert found == {item.id: inside(moved.truth[item.id], query) for item in query.series}


async def test_a_template_without_tags_reads_one_measurement(moved: Moved) -> None:
    """Other measurements do not belong to the device."""
    async with client_of(moved.access) as server:
        alone = HistoryReader(server, SeriesNaming(measurement="pump", tags_of=lambda _: {}))
        found = await ask(alone, HistoryQuery(SERIES[:1], *EVER, None))
        assert 0 < len(found[1]) < len(moved.truth[1])


async def test_large_answers_are_requested_in_parts(server: InfluxdbServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long strings come in smaller pages. A reading that exceeds the limit of an answer is an error."""
    texts = {time: "x" * 5_000 + str(time) for time in range(40)}
    series = [Series(id, f"device-{id}", "text", "string") for id in range(3)]
    access = server.fresh()
    async with client_of(access) as written_to:
        lines = [
            f'telemetry,device={item.device} text="{text}" {time}' for item in series for time, text in texts.items()
        ]
        await written_to.write("\n".join(lines).encode())
    monkeypatch.setattr(history, "MAX_QUERY_ANSWER_BYTES", 50_000)
    async with reading_of(access) as reading_parts:
        everything = {item.id: sorted(texts.items()) for item in series}
        assert await ask(reading_parts, HistoryQuery(series, *EVER, None)) == everything
        assert {id: newest.value for id, newest in (await reading_parts.latest(series)).items()} == {
            item.id: texts[39] for item in series
        }
        monkeypatch.setattr(history, "MAX_QUERY_ANSWER_BYTES", 4_000)
        with pytest.raises(AnswerTooLarge, match="request less"):
            await ask(reading_parts, HistoryQuery(series, *EVER, None))


async def test_a_server_that_refuses_reads_is_reported(server: InfluxdbServer) -> None:
    """For wrong credentials, a missing bucket and an absent server, the error contains the server's text and what to
    do."""
    access = server.fresh()
    wrong = Access(access.major, access.url, access.bucket, org=access.org, token="nobody:nothing")
    async with reading_of(wrong) as refused:
        with pytest.raises(StoreUnavailable, match=r"(?i)unauthorized|authorization failed"):
            await refused.latest(SERIES)
    elsewhere = Access(**{**vars(access), "bucket": "nowhere"})
    async with reading_of(elsewhere) as lost:
        with pytest.raises(StoreUnavailable, match="nowhere"):
            await lost.query(HistoryQuery(SERIES, *EVER, 10))
    async with reading_of(access) as alone:
        with server.down(), pytest.raises(StoreUnavailable, match="does not answer"):
            await alone.query(HistoryQuery(SERIES, *EVER, 10))
        assert await alone.latest(SERIES) == {}


async def test_a_cancelled_query_releases_everything(moved: Moved) -> None:
    """Its request ends, and the connection serves the next query."""
    async with reading_of(moved.access) as reading:
        asked = asyncio.create_task(reading.query(HistoryQuery(SERIES, *EVER, 50)))
        await asyncio.sleep(0)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert await ask(reading, HistoryQuery(SERIES[:1], *EVER, None)) == {1: sorted(moved.truth[1].items())}
