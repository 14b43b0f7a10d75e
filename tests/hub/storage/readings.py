"""Series, batches and entries for tests of stores, and the answers of a store that contains them."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np

from hub.model.batch import Batch, Entry, EntryKind, Series
from hub.model.store import Store
from hub.storage.duckdb.store import DuckdbStore
from wire.model import MetricType, Value

Reading = tuple[int, Any]

TYPES: tuple[MetricType, ...] = ("float", "integer", "boolean", "string")

SERIES: dict[MetricType, Series] = {type: Series(id, "device", type, type) for id, type in enumerate(TYPES, start=1)}
"""One series of each type."""

REGISTRY = "a" * 32
"""The registry that assigned the ids of these series."""

TIMES = st.integers(0, 2**63 - 1) | st.integers(0, 50)

VALUES: dict[MetricType, st.SearchStrategy[Any]] = {
    "float": st.floats(allow_nan=False)
    | st.integers(-(2**63), 2**63 - 1)
    | st.sampled_from([-0.0, 5e-324, -5e-324, 1.7976931348623157e308, math.inf, -math.inf]),
    "integer": st.integers(-(2**63), 2**63 - 1) | st.sampled_from([-(2**63), 2**63 - 1, 0]),
    "boolean": st.booleans(),
    "string": st.text(st.characters(exclude_categories=["Cs"]))
    | st.sampled_from(["", "\0", "a\0b", "NULL", "nan", "'; DROP TABLE store", "\U0010ffff", "\ufeff", "x" * 70_000]),
}


def retyped(*types: MetricType, id: int = 9) -> tuple[Series, ...]:
    """Return the objects of a series that had these types one after the other; the last one is current."""
    parts = tuple(Series(id, "device", "retyped", type) for type in types)
    for part in parts:
        part.parts = parts
    return parts


def open_store(directory: Path) -> DuckdbStore:
    """Return a DuckDB store of this registry in the directory, to be entered."""
    return DuckdbStore(directory / "history.duckdb", registry=REGISTRY)


def batch(times: Sequence[int], columns: Mapping[Series, Sequence[Value]], *, packed: bool = False) -> Batch:
    """Return a batch of these columns; if packed, with arrays for times and float values, as the codec makes it."""
    made = []
    for series, values in columns.items():
        assert len(values) == len(times)
        as_array = packed and series.type == "float"
        made.append((series, np.array(values, np.float64) if as_array else list(values)))
    readings = sum(value is not None for values in columns.values() for value in values)
    return Batch(np.array(times, np.int64) if packed else list(times), made, readings=readings)


def entry(offset: int, content: Batch | None, kind: EntryKind = EntryKind.BATCH) -> Entry:
    """Return the decoded journal entry of a batch."""
    return Entry(kind, "device", "0" * 16, offset, 1_000 + offset, "json", b"{}", batch=content, offset=offset)


def entries(batches: Iterable[Batch], first: int = 1) -> list[Entry]:
    """Return the entries of batches, with increasing offsets."""
    return [entry(offset, content) for offset, content in enumerate(batches, start=first)]


@st.composite
def batches(draw: st.DrawFn, series: Sequence[Series], times: st.SearchStrategy[int] = TIMES) -> Batch:
    """Generate a batch of some of these series, in any form of a decoder, with missing values."""
    chosen = draw(st.lists(st.sampled_from(series), min_size=1, max_size=4, unique=True))
    moments = draw(st.lists(times, min_size=1, max_size=6))
    count = len(moments)
    columns = {
        item: draw(st.lists(st.none() | VALUES[item.type], min_size=count, max_size=count))
        if draw(st.booleans())
        else draw(st.lists(VALUES[item.type], min_size=count, max_size=count))
        for item in chosen
    }
    return batch(moments, columns, packed=draw(st.booleans()))


def readings_of(batches: Iterable[Batch]) -> dict[int, list[Reading]]:
    """Return every reading of each series in time order, by series id, computed one by one."""
    found: dict[int, list[Reading]] = {}
    for content in batches:
        for series, values in content.columns:
            for time, value in zip(content.times, values, strict=True):
                if value is not None and value == value:
                    plain = float(value) if series.type == "float" else value
                    found.setdefault(series.id, []).append((int(time), plain))
    return {id: sorted(readings, key=order) for id, readings in found.items()}


async def stored(store: Store) -> dict[int, int]:
    """Return the number of readings of each series in a store, by id, without series that have none."""
    return {id: counts.stored for id, counts in (await store.counts()).items() if counts.stored}


def order(reading: Reading) -> tuple[int, bytes]:
    """Return a sort key that distinguishes all readings, also -0.0 and 0.0."""
    time, value = reading
    return time, exactly(value)


def exactly(value: Any) -> bytes:
    """Return a value's type and content; floats to the bit."""
    match value:
        case float():
            return b"f" + struct.pack("<d", value)
        case str():
            return b"s" + value.encode()
        case _:
            return repr(value).encode()
