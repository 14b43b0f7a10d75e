"""What InfluxDB answers to questions: JSON, taken apart into columns. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from hub.model.store import StoreError
from hub.storage.influxdb.influxql import Statement
from wire.model import MetricType

Array = NDArray[Any]

DTYPES: dict[MetricType, Any] = {"float": np.float64, "integer": np.int64, "boolean": np.bool_, "string": object}


class Rows(NamedTuple):
    """Times and values of one series in one measurement, in order of time; strings are in an array of objects."""

    measurement: str
    times_ns: Array
    values: Array


class Refusal(Exception):
    """A statement was refused or failed, in the server's words.

    `hidden`: they only say that it was not executed. Of several statements whose first one fails, a server tells that
    of the first as well.
    """

    @property
    def hidden(self) -> bool:
        return str(self) == "not executed"


class _Series(msgspec.Struct):
    """Of one answer; `values` are rows of a time and a value. `partial`: the server has left the rest out."""

    name: str
    values: msgspec.Raw
    tags: dict[str, str] = {}
    partial: bool = False


class _Result(msgspec.Struct):
    series: list[_Series] = []
    error: str = ""


class _Answer(msgspec.Struct):
    results: list[_Result] = []


_ANSWER = msgspec.json.Decoder(_Answer)
_ROWS: dict[MetricType, msgspec.json.Decoder[Any]] = {
    "float": msgspec.json.Decoder(list[tuple[int, float]]),
    "integer": msgspec.json.Decoder(list[tuple[int, int]]),
    "boolean": msgspec.json.Decoder(list[tuple[int, bool]]),
    "string": msgspec.json.Decoder(list[tuple[int, str]]),
}


def take_apart(statements: Sequence[Statement], body: bytes) -> list[dict[int, list[Rows]]]:
    """The answers to statements: rows by series id, those of each measurement apart.

    Raises Refusal where one has none, and StoreError for an answer that cannot be understood, or that is not whole.
    """
    try:
        results = _ANSWER.decode(body).results
        for result in results:
            if result.error:
                raise Refusal(result.error)
        if len(results) != len(statements):
            raise StoreError(f"InfluxDB gave {len(results)} answers to {len(statements)} questions")
        return [_by_series(*pair) for pair in zip(statements, results, strict=True)]
    except msgspec.MsgspecError as error:
        raise StoreError(f"InfluxDB's answer cannot be understood: {error}") from error


def _by_series(statement: Statement, result: _Result) -> dict[int, list[Rows]]:
    ids = {one.device: one.id for one in statement.group.series}
    found: dict[int, list[Rows]] = {}
    for part in result.series:
        if part.partial:
            raise StoreError("InfluxDB leaves out rows: set its max-row-limit to 0, or ask for less at once")
        id = ids.get(part.tags.get("device", ""))
        if id is not None:
            found.setdefault(id, []).append(_rows(part, statement.type))
    return found


def _rows(part: _Series, type: MetricType) -> Rows:
    encoded = bytes(part.values)
    if type == "float":
        # The sign of a zero is lost on an integer.
        encoded = encoded.replace(b",-0]", b",-0.0]")
    rows = _ROWS[type].decode(encoded)
    times = np.fromiter((time for time, _ in rows), np.int64, len(rows))
    values = np.empty(len(rows), DTYPES[type])
    values[:] = [value for _, value in rows]
    return Rows(part.name, times, values)
