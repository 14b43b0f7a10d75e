"""Questions in InfluxQL, the language that InfluxDB 1, 2 and 3 share. Pure.

After the language's specification (Querying, Literals) and the scanner of github.com/influxdata/influxql: in quotes a
backslash escapes the quote, itself and `n`, and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from hub.model.batch import Series
from hub.storage.influxdb.line import MAX_TIME_NS
from hub.storage.influxdb.naming import DEVICE_TAG, Naming
from wire.model import MetricType

MAX_DEVICES = 100
"""Of one statement: each is a condition, and InfluxDB goes through conditions by recursion."""

_NAME = re.compile(r'["\\\n]')
_TEXT = re.compile(r"['\\\n]")

T = TypeVar("T")


class Range(NamedTuple):
    """From the first to the last nanosecond, both included."""

    first_ns: int
    last_ns: int


EVER = Range(0, MAX_TIME_NS)
"""InfluxDB's own bounds are wider, but where a statement has none it takes the time of now for one."""


class Intervals(NamedTuple):
    """Intervals of `width_ns` each; number 0 begins at `from_ns`."""

    from_ns: int
    width_ns: int


class Group(NamedTuple):
    """Series that one statement can ask for: one metric of many devices, in the same place.

    `source` is what follows FROM; `series` are of different devices.
    """

    source: str
    field: str
    type: MetricType
    series: tuple[Series, ...]


class Statement(NamedTuple):
    """One question: what of a group's readings. Each series that has any gives rows of a time and a value.

    `what` is a selection such as `top(#, 1)`, # being the field. With `intervals` there is a row for each interval that
    has readings; most functions give it the time at which the interval begins, top and bottom that of the reading.
    `type` is that of the values. A `moments` statement is about the readings' times: # are nanoseconds since the first
    reading of the range, which has none itself.
    """

    what: str
    group: Group
    within: Range
    type: MetricType
    intervals: Intervals | None = None
    limit: int | None = None
    moments: bool = False

    def text(self) -> str:
        """In InfluxQL."""
        source, condition = self.group.source, _condition(self.group.series)
        bounds = f"time >= {self.within.first_ns} AND time <= {self.within.last_ns}"
        # The type keeps a tag of the same name out, and values that came to another field type.
        field = f"{name(self.group.field)}::{'float' if self.type == 'float' else self.group.type}"
        if self.moments:
            inner = f"SELECT cumulative_sum(elapsed({field}, 1ns)) AS moment FROM {source}"
            source = f'({inner} WHERE {condition} AND {bounds} GROUP BY "{DEVICE_TAG}")'
            field, condition = "moment", ""
        by = f'"{DEVICE_TAG}"'
        if self.intervals is not None:
            from_ns, width_ns = self.intervals
            by += f", time({width_ns}ns, {from_ns % width_ns}ns) fill(none)"
        return (
            f"SELECT {self.what.replace('#', field)} FROM {source} "
            f"WHERE {f'{condition} AND ' if condition else ''}{bounds} GROUP BY {by}"
            f"{'' if self.limit is None else f' LIMIT {self.limit}'}"
        )


def groups_of(series: Iterable[Series], naming: Naming) -> list[Group]:
    """All of these series, in groups of at most MAX_DEVICES; one that is asked for twice is there once."""
    found: dict[tuple[str, str, MetricType], dict[int, Series]] = {}
    for one in series:
        place = naming.place(one)
        pattern = naming.measurements(one)
        source = name(place.measurement) if pattern is None else regex(pattern)
        found.setdefault((source, place.field, one.type), {})[one.id] = one
    return [
        Group(*where, tuple(part))
        for where, members in found.items()
        for part in _parts(list(members.values()), MAX_DEVICES)
    ]


def divided(statement: Statement) -> list[Statement]:
    """The same question about half of the series each; itself where it is about one."""
    series = statement.group.series
    middle = len(series) // 2
    halves = [series[:middle], series[middle:]]
    return [statement._replace(group=statement.group._replace(series=half)) for half in halves if half]


def _parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The items in parts of at most `size`."""
    return (items[start : start + size] for start in range(0, len(items), size))


def name(text: str) -> str:
    """An identifier, whatever is in it."""
    return f'"{_NAME.sub(_escaped, text)}"'


def text(text: str) -> str:
    """A string, whatever is in it."""
    return f"'{_TEXT.sub(_escaped, text)}'"


def regex(pattern: str) -> str:
    """A regular expression in the place of an identifier."""
    escaped = pattern.replace("/", r"\/")
    return f"/{escaped}/"


def _condition(series: Sequence[Series]) -> str:
    # A metric may be called "device", too: the tag is meant.
    alternatives = " OR ".join(f'"{DEVICE_TAG}"::tag = {text(one.device)}' for one in series)
    return f"({alternatives})"


def _escaped(match: re.Match[str]) -> str:
    return r"\n" if match[0] == "\n" else f"\\{match[0]}"
