"""What answers are made of: ranges, and the columns of a query taken apart by series. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np

from hub.model.batch import Series
from hub.model.store import SeriesHistory
from hub.storage.duckdb.columns import DTYPES, Array
from wire.limits import MAX_TIME_NS
from wire.model import MetricType, Value

Found = dict[int, SeriesHistory]
"""Answers by series id; series without a reading in the range are not there."""


class Range(NamedTuple):
    """From the first to the last nanosecond, both included."""

    first_ns: int
    last_ns: int


def range_of(start_ns: int, end_ns: int) -> Range:
    """The part of [start, end) in which there can be readings; it may be empty: then the first is after the last."""
    return Range(max(start_ns, 0), min(end_ns - 1, MAX_TIME_NS))


def parts(series: Array) -> Iterator[tuple[int, slice]]:
    """Each id and where it is, in a column where equal ones are together."""
    ends = [*np.flatnonzero(np.diff(series)) + 1, len(series)] if len(series) else []
    for begin, end in zip([0, *ends], ends, strict=False):
        yield int(series[begin]), slice(begin, end)


def plain(type: MetricType, values: Array) -> list[Value] | Array:
    """Values as the contract has them: strings in a list, others as they are."""
    if type != "string":
        return values
    strings: list[Value] = values.tolist()
    return strings


def resolution_name(resolutions: Array) -> Literal["reduced", "minute", "hour"]:
    """What points are made of: of the coarsest that is among their resolutions (0 raw, 1 minutes, 2 hours)."""
    names: tuple[Literal["reduced", "minute", "hour"], ...] = ("reduced", "minute", "hour")
    return names[int(resolutions.max())]


def nothing(series: Series) -> SeriesHistory:
    """The answer for a series without readings."""
    return SeriesHistory(series, np.empty(0, np.int64), plain(series.type, np.empty(0, DTYPES[series.type])), "raw")
