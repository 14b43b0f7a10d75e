"""A history as JSON, in parts: numbers become Python objects and text a few thousand at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from hub.http.table import type_of
from hub.model.store import Aggregate, History

SLICE = 8_192
"""Numbers that are written at once: half a megabyte of objects for a moment."""

PART_BYTES = 128 * 1024
"""Parts are at least so large, but for the last: many small series make few of them."""

encode = msgspec.json.encode


def history_json(history: History, aggregate: Aggregate) -> Iterator[bytes]:
    """The answer as the API's History, in parts of about PART_BYTES."""
    part = bytearray()
    for piece in _pieces(history, aggregate):
        part += piece
        if len(part) >= PART_BYTES:
            yield bytes(part)
            part.clear()
    yield bytes(part)


def _pieces(history: History, aggregate: Aggregate) -> Iterator[bytes]:
    yield b'{"offset":%d,"series":[' % history.cursor.offset
    for number, part in enumerate(history.series):
        series = part.series
        head = {
            "device": series.device,
            "metric": series.metric,
            "type": type_of(series, aggregate),
            "unit": series.unit,
            "resolution": part.resolution,
        }
        yield (b"," if number else b"") + encode(head)[:-1] + b',"time_ns":['
        yield from _numbers(part.times_ns)
        yield b'],"values":['
        yield from _numbers(part.values)
        yield b"]}"
    yield b"]}"


def _numbers(column: Any) -> Iterator[bytes]:
    for start in range(0, len(column), SLICE):
        piece = column[start : start + SLICE]
        listed = encode(piece if isinstance(piece, list) else piece.tolist())
        yield (b"," if start else b"") + listed[1:-1]
