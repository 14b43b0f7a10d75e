"""Statements in InfluxQL, the language that InfluxDB 1, 2 and 3 share, and their answers. Pure.

It follows the specification of the language (Querying, Literals) and the scanner of github.com/influxdata/influxql: in
quotes, a backslash escapes the quote, itself and `n`, and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from hub.model.batch import Series
from hub.model.store import StoreError
from hub.storage.influxdb.line_protocol import MAX_TIME_NS
from hub.storage.influxdb.series_naming import DEVICE_TAG, SeriesNaming
from hub.storage.query import DTYPES, Array, HistoryPart, Intervals, TimeRange
from wire.model import MetricType

MAX_DEVICES = 100
"""Maximum devices of one statement: each is a condition, and InfluxDB evaluates conditions recursively."""

_NAME = re.compile(r'["\\\n]')
_TEXT = re.compile(r"['\\\n]")

EVER = TimeRange(0, MAX_TIME_NS)
"""All times. InfluxDB's own limits are wider, but without a condition it ends at the current time."""


class FieldSource(NamedTuple):
    """A field of one type, and what follows FROM in a statement about it."""

    source: str
    field: str
    type: MetricType


class SeriesGroup(NamedTuple):
    """Series that one statement can query: one metric of several devices with the same location.

    `series` belong to different devices. `fields` are one for each type that their readings have; the values of the
    others become values of the first one.
    """

    fields: tuple[FieldSource, ...]
    series: tuple[Series, ...]

    @property
    def type(self) -> MetricType:
        """Return the type of the values."""
        return self.fields[0].type


class Statement(NamedTuple):
    """One selection of a group's readings. Each series that has any returns rows of a time and a value.

    `selection` is for example `top(#, 1)`, where # is the field. With `intervals` there is a row for each interval that
    has readings. Most functions give it the time at which the interval begins; top and bottom give the time of the
    reading. `type` is the type of the values. A `moments` statement selects the times of readings: # are nanoseconds
    since the first reading of the range, which has none itself.
    """

    selection: str
    group: SeriesGroup
    time_range: TimeRange
    type: MetricType
    intervals: Intervals | None = None
    limit: int | None = None
    moments: bool = False

    def of_each_field(self) -> list[Statement]:
        """Return the statement for each field of the group."""
        return [self._replace(group=self.group._replace(fields=(field,))) for field in self.group.fields]

    def text(self) -> str:
        """Return the statement about the group's first field in InfluxQL."""
        source, field_name, type = self.group.fields[0]
        # A metric may be named "device", too. The condition is about the tag.
        devices = " OR ".join(f'"{DEVICE_TAG}"::tag = {text(series.device)}' for series in self.group.series)
        condition = f"({devices}) AND "
        bounds = f"time >= {self.time_range.first_ns} AND time <= {self.time_range.last_ns}"
        # The type excludes a tag of the same name, and values of another field type.
        field = f"{name(field_name)}::{'float' if self.type == 'float' else type}"
        if self.moments:
            inner = f"SELECT cumulative_sum(elapsed({field}, 1ns)) AS moment FROM {source}"
            source = f'({inner} WHERE {condition}{bounds} GROUP BY "{DEVICE_TAG}")'
            field, condition = "moment", ""
        by = f'"{DEVICE_TAG}"'
        if self.intervals is not None:
            from_ns, width_ns = self.intervals
            by += f", time({width_ns}ns, {from_ns % width_ns}ns) fill(none)"
        return (
            f"SELECT {self.selection.replace('#', field)} FROM {source} WHERE {condition}{bounds} GROUP BY {by}"
            f"{'' if self.limit is None else f' LIMIT {self.limit}'}"
        )


def group_series(parts: Iterable[HistoryPart], naming: SeriesNaming) -> list[SeriesGroup]:
    """Return these series in groups of at most MAX_DEVICES. A repeated series is included once."""
    found: dict[tuple[FieldSource, ...], dict[int, Series]] = {}
    for series, types in parts:
        fields = tuple(
            _field_source(part, naming) for type in types for part in series.parts or (series,) if part.type == type
        )
        found.setdefault(fields, {})[series.id] = series
    return [
        SeriesGroup(fields, members[start : start + MAX_DEVICES])
        for fields, members in ((fields, tuple(by_id.values())) for fields, by_id in found.items())
        for start in range(0, len(members), MAX_DEVICES)
    ]


def _field_source(series: Series, naming: SeriesNaming) -> FieldSource:
    location = naming.locate(series)
    pattern = naming.measurements(series)
    return FieldSource(name(location.measurement) if pattern is None else regex(pattern), location.field, series.type)


def split_statement(statement: Statement) -> list[Statement]:
    """Return the statement for each half of its series; the statement itself if it has one series."""
    series = statement.group.series
    middle = len(series) // 2
    halves = [series[:middle], series[middle:]]
    return [statement._replace(group=statement.group._replace(series=half)) for half in halves if half]


def name(text: str) -> str:
    """Return an identifier with any content."""
    return f'"{_NAME.sub(_escaped, text)}"'


def text(text: str) -> str:
    """Return a string with any content."""
    return f"'{_TEXT.sub(_escaped, text)}'"


def regex(pattern: str) -> str:
    """Return a regular expression in the place of an identifier."""
    return "/{}/".format(pattern.replace("/", r"\/"))


def _escaped(match: re.Match[str]) -> str:
    return r"\n" if match[0] == "\n" else f"\\{match[0]}"


class MeasurementRows(NamedTuple):
    """Times and values of one series in one measurement, in time order. Strings are in an array of objects."""

    measurement: str
    times_ns: Array
    values: Array


class StatementError(Exception):
    """The server refused a statement, or the statement failed. The message is the server's text."""


class _Series(msgspec.Struct):
    """One series of an answer. `values` are rows of a time and a value. If `partial`, the server left out the rest."""

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


def decode_answers(statements: Sequence[Statement], body: bytes) -> list[dict[int, list[MeasurementRows]]]:
    """Return the answers to statements: rows by series id, separately for each measurement.

    Raises StatementError if a statement failed, and StoreError for an answer that is not valid or not complete.
    """
    try:
        results = _ANSWER.decode(body).results
        for result in results:
            if result.error:
                raise StatementError(result.error)
        if len(results) != len(statements):
            raise StoreError(f"InfluxDB returned {len(results)} answers to {len(statements)} statements")
        return [_by_series(*pair) for pair in zip(statements, results, strict=True)]
    except msgspec.MsgspecError as error:
        raise StoreError(f"InfluxDB's answer is not valid: {error}") from error


def _by_series(statement: Statement, result: _Result) -> dict[int, list[MeasurementRows]]:
    ids = {series.device: series.id for series in statement.group.series}
    found: dict[int, list[MeasurementRows]] = {}
    for part in result.series:
        if part.partial:
            raise StoreError("InfluxDB left out rows: set its max-row-limit to 0, or request less at once")
        id = ids.get(part.tags.get("device", ""))
        if id is not None:
            found.setdefault(id, []).append(_rows(part, statement.type))
    return found


def _rows(part: _Series, type: MetricType) -> MeasurementRows:
    encoded = bytes(part.values)
    if type == "float":
        # An integer would lose the sign of a zero.
        encoded = encoded.replace(b",-0]", b",-0.0]")
    rows = _ROWS[type].decode(encoded)
    times = np.fromiter((time for time, _ in rows), np.int64, len(rows))
    values = np.empty(len(rows), DTYPES[type])
    values[:] = [value for _, value in rows]
    return MeasurementRows(part.name, times, values)
