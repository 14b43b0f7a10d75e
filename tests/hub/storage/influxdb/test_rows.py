"""Decoding of InfluxDB's JSON answers."""

from __future__ import annotations

import math

import pytest

from hub.model.batch import Series
from hub.model.store import StoreError
from hub.storage.influxdb.influxql import EVER, MeasurementRows, Statement, StatementError, decode_answers, group_series
from hub.storage.influxdb.series_naming import SeriesNaming
from wire.model import MetricType


def statement(type: MetricType = "float") -> Statement:
    (group,) = group_series([Series(7, "d-1", "level", type)], SeriesNaming(tags_of=lambda _: {}))
    return Statement("#", group, EVER, type)


def taken(type: MetricType, rows: str) -> MeasurementRows:
    series = f'{{"name":"m","tags":{{"device":"d-1"}},"columns":["time","level"],"values":{rows}}}'
    body = f'{{"results":[{{"statement_id":0,"series":[{series}]}}]}}'
    ((found,),) = decode_answers([statement(type)], body.encode())[0].values()
    return found


def test_numbers_are_exact() -> None:
    """The largest integers, the largest times and floats are exact to the bit; a zero keeps its sign."""
    integers = taken("integer", "[[9223372036854775806,9223372036854775807],[0,-9223372036854775808]]")
    assert integers.times_ns.tolist() == [9223372036854775806, 0]
    assert integers.values.tolist() == [2**63 - 1, -(2**63)]
    floats = taken("float", "[[1,-0],[2,9223372036854776000],[3,5e-324],[4,1]]").values.tolist()
    assert floats == [0.0, 9223372036854775808.0, 5e-324, 1.0]
    assert math.copysign(1, floats[0]) == -1


def test_texts_stay_texts() -> None:
    """This includes a text that looks like the end of a number."""
    assert taken("string", '[[1,""],[2,",-0]"],[3,"\\u0000\\n"]]').values.tolist() == ["", ",-0]", "\0\n"]


def test_an_answer_without_series_is_no_reading() -> None:
    """A series of another device is ignored, too."""
    assert decode_answers([statement()], b'{"results":[{"statement_id":0}]}') == [{}]
    other = b'{"results":[{"series":[{"name":"m","tags":{"device":"d-2"},"values":[[1,2]]}]}]}'
    assert decode_answers([statement()], other) == [{}]


@pytest.mark.parametrize(
    ("body", "error", "words"),
    [
        (b'{"results":[{"error":"database not found: x"}]}', StatementError, "database not found: x"),
        (b'{"results":[]}', StoreError, "0 answers to 1 statements"),
        (
            b'{"results":[{"series":[{"name":"m","tags":{"device":"d-1"},"values":[[1,2]],"partial":true}]}]}',
            StoreError,
            "max-row-limit",
        ),
        (
            b'{"results":[{"series":[{"name":"m","tags":{"device":"d-1"},"values":[[1,"x"]]}]}]}',
            StoreError,
            "not valid",
        ),
        (b"<html>", StoreError, "not valid"),
    ],
)
def test_an_incomplete_answer_is_an_error(body: bytes, error: type[Exception], words: str) -> None:
    """It never counts as an empty history."""
    with pytest.raises(error, match=words):
        decode_answers([statement()], body)
