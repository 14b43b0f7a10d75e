"""The same fleet in every store: the same queries have the same answers."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from hub.model.batch import Batch, Entry, Series
from hub.model.store import Aggregate, HistoryQuery, SeriesHistory, Store, StoreCursor
from tests.hub.storage.implementations import duckdb, influxdb
from tests.hub.storage.readings import batch, entries
from tests.services.influxdb import InfluxdbServer
from wire.model import MetricType, Value

SECOND = 1_000_000_000
NOW_NS = 1_700_000_000 * SECOND
STEP_NS = 10 * SECOND
STEPS = 360
"""An hour with one reading of each metric every 10 seconds."""

DEVICES = 100
TYPES: tuple[MetricType, ...] = ("float",) * 6 + ("integer",) * 2 + ("boolean", "string")
BACKFILLED_DEVICES = 10
BACKFILLED_DAYS = 2
BACKFILL_STEP_NS = 600 * SECOND
ROWS = 30
"""Rows of one batch."""

BATCHES = 500
"""Batches of one write."""

QUERIES = 50

SERIES = [
    [
        Series(device * len(TYPES) + place + 1, f"host_{device}", f"usage_{place}", type)
        for place, type in enumerate(TYPES)
    ]
    for device in range(DEVICES)
]


def fleet(draw: random.Random) -> list[Batch]:
    """Return the readings of the devices in order of arrival: with holes, out of order, and with days that arrive
    later."""
    found = []
    for number, series in enumerate(SERIES):
        # No two devices measure at the same nanosecond.
        begin = NOW_NS - STEPS * STEP_NS + draw.randrange(SECOND)
        times = [begin + step * STEP_NS for step in range(STEPS)]
        if number < BACKFILLED_DEVICES:
            steps = BACKFILLED_DAYS * 86_400 * SECOND // BACKFILL_STEP_NS
            times += [begin - 3_600 * SECOND - step * BACKFILL_STEP_NS for step in range(steps)]
        for start in range(0, len(times), ROWS):
            part = times[start : start + ROWS]
            columns = {item: [drawn(draw, item.type) for _ in part] for item in series if draw.random() > 0.05}
            if columns:
                found.append(batch(part, columns))
    draw.shuffle(found)
    return found


def drawn(draw: random.Random, type: MetricType) -> Value:
    """Return a value, and sometimes none. Numbers are hardly ever equal, so a minimum has one time."""
    if draw.random() < 0.05:
        return None
    match type:
        case "float":
            return draw.gauss(50, 20)
        case "integer":
            return draw.randrange(-(2**62), 2**62)
        case "boolean":
            return draw.random() < 0.5
        case "string":
            return draw.choice(["idle", "busy", "broken", ""])


def queries(draw: random.Random) -> Iterator[HistoryQuery]:
    """Generate queries of some devices and metrics over minutes, the hour or days, as charts and scripts make them."""
    for _ in range(QUERIES):
        aggregate: Aggregate = draw.choice(get_args(Aggregate))
        metrics = draw.sample(range(8 if aggregate in ("avg", "min", "max") else 10), draw.choice([1, 2, 4]))
        devices = draw.sample(range(DEVICES), draw.choice([1, 3, 10])) + draw.sample(range(BACKFILLED_DEVICES), 1)
        length = draw.choice([300, 1_800, 3_600, 86_400, 3 * 86_400]) * SECOND
        end = NOW_NS + draw.choice([0, -draw.randrange(3_600 * SECOND), 600 * SECOND])
        points = draw.choice([10, 100, 101, 1_000])
        whole = aggregate == "minmax" and draw.random() < 0.3
        series = [SERIES[device][metric] for device in dict.fromkeys(devices) for metric in metrics]
        yield HistoryQuery(series, end - length, end, None if whole else points, aggregate)


@pytest.mark.deadline(180)
async def test_stores_answer_alike(tmp_path: Path, influxdb1: InfluxdbServer, influxdb2: InfluxdbServer) -> None:
    """50 queries of an hour and some backfilled days of 100 devices with 10 metrics each have the same answers."""
    implementations = [duckdb(), influxdb("influxdb1", influxdb1), influxdb("influxdb2", influxdb2)]
    given = entries(fleet(random.Random(17)))
    readings = sum(item.batch.readings for item in given if item.batch is not None)
    async with AsyncExitStack() as stack:
        stores: dict[str, Store] = {}
        for implementation in implementations:
            directory = tmp_path / implementation.name
            directory.mkdir()
            store = stores[implementation.name] = await stack.enter_async_context(implementation.open(directory))
            await store.open()
            for start in range(0, len(given), BATCHES):
                part = given[start : start + BATCHES]
                written = await store.write(part, StoreCursor("journal-a", part[-1].offset))
                assert (written.readings, list(written.refused)) == (readings_in(part), [])
        answered = 0
        for query in queries(random.Random(4)):
            histories = {name: await store.query(query) for name, store in stores.items()}
            expected = histories.pop("duckdb")
            for name, history in histories.items():
                for item, other in zip(expected.series, history.series, strict=True):
                    compare(item, other, f"{name} {query.aggregate} {query.points} {item.series.metric}")
            answered += sum(len(part.times_ns) for part in expected.series)
        everything = [item for series in SERIES for item in series]
        latest = await stores.pop("duckdb").latest(everything)
        assert len(latest) == len(everything)
        assert [await store.latest(everything) for store in stores.values()] == [latest, latest]
    assert readings > 300_000
    assert answered > 25_000


def readings_in(part: Sequence[Entry]) -> int:
    return sum(item.batch.readings for item in part if item.batch is not None)


def compare(expected: SeriesHistory, found: SeriesHistory, what: str) -> None:
    """Check that points are equal; if DuckDB read them from minutes or hours, that the lowest and highest values are
    equal."""
    values, others = (np.array(item.values, object) for item in (expected, found))
    if expected.resolution != found.resolution:
        assert expected.resolution in ("minute", "hour"), what
        if expected.series.type in ("float", "integer"):
            assert (min(values), max(values)) == (min(others), max(others)), what
        return
    assert found.times_ns.tolist() == expected.times_ns.tolist(), what
    if " avg " in what:
        assert others.tolist() == pytest.approx(values.tolist(), rel=1e-9, abs=1e-9), what
    else:
        assert others.tolist() == values.tolist(), what
