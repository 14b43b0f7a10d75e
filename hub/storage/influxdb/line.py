"""Readings as InfluxDB line protocol. Pure.

A point is `measurement,tag=value field=1.5,other=2i 1700000000000000000`. Numbers of float metrics stay floats, and
only those of metrics that are declared integer get the `i`: InfluxDB fixes a field's type with its first value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hub.storage.influxdb.naming import Place
from wire.model import MetricType, Value

MAX_TIME_NS = 2**63 - 2
"""The newest time that InfluxDB takes; one nanosecond before that of an int64."""

MAX_KEY_BYTES = 65_535
"""Of measurement, tags and their values together, with room for a field's name: InfluxDB's bound for a series key."""

_IN_MEASUREMENT = re.compile(r"[, ]")
_IN_KEY = re.compile(r"[,= ]")
_IN_STRING = re.compile(r'["\\]')

Texts = list[str | None]
"""What each row of a column is in its point, `field=value`; None where it has no value."""


def prefix_of(place: Place) -> str:
    """Measurement and tags, which begin each point of a series. These names are as `Naming.place` leaves them."""
    tags = "".join(f",{_key(name)}={_key(value)}" for name, value in place.tags)
    return _IN_MEASUREMENT.sub(_escaped, place.measurement) + tags


def field_of(place: Place) -> str:
    """The field's name with its equals sign."""
    return f"{_key(place.field)}="


def value_text(type: MetricType, value: Value) -> str | None:
    """A value in line protocol; None where InfluxDB has no such value: infinities, and no value at all."""
    if value is None:
        return None
    if type == "float":
        return repr(float(value)) if math.isfinite(float(value)) else None
    if type == "integer":
        return f"{value}i"
    if type == "boolean":
        return "true" if value else "false"
    return f'"{_IN_STRING.sub(_escaped, str(value))}"'


def column_texts(field: str, type: MetricType, values: Sequence[Value] | NDArray[Any]) -> Texts:
    """Each row of a column; `field` is from `field_of`."""
    if isinstance(values, np.ndarray):
        listed: Sequence[Any] = values.tolist()
        is_whole = bool(np.isfinite(values).all())
    else:
        listed = values
        is_whole = type != "float" and None not in values
        if type == "float":
            try:
                total: float = sum(values)  # type: ignore[arg-type]
                is_whole = total - total == 0.0
            except TypeError:
                is_whole = False
    if not is_whole:
        texts = (value_text(type, value) for value in listed)
        return [None if text is None else field + text for text in texts]
    if type == "float":
        # An integer among them needs no point to be a float.
        return [f"{field}{value!r}" for value in listed]
    if type == "integer":
        return [f"{field}{value}i" for value in listed]
    if type == "boolean":
        return [f"{field}true" if value else f"{field}false" for value in listed]
    return [f'{field}"{_IN_STRING.sub(_escaped, value)}"' for value in listed]


def lines(prefix: str, columns: Sequence[Texts], times: Iterable[int]) -> list[str]:
    """The points of columns that share a prefix, one a row; rows without a value give none."""
    if len(columns) == 1:
        return [f"{prefix} {text} {time}" for text, time in zip(columns[0], times, strict=True) if text is not None]
    if any(None in column for column in columns):
        rows = (",".join(filter(None, row)) for row in zip(*columns, strict=True))
        return [f"{prefix} {row} {time}" for row, time in zip(rows, times, strict=True) if row]
    return [f"{prefix} {','.join(row)} {time}" for row, time in zip(zip(*columns, strict=True), times, strict=True)]


def _key(text: str) -> str:
    return _IN_KEY.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    return f"\\{match[0]}"
