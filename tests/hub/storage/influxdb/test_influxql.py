"""Statements as InfluxDB reads them, and its JSON answers."""

from __future__ import annotations

import math
import re

import hypothesis.strategies as st
import pytest
from hypothesis import given

from hub.model.batch import Series
from hub.model.store import StoreError
from hub.storage.influxdb.influxql import (
    EVER,
    MAX_DEVICES,
    MeasurementRows,
    Statement,
    StatementError,
    decode_answers,
    group_series,
    name,
    regex,
    split_statement,
    text,
)
from hub.storage.influxdb.series_naming import SeriesNaming
from hub.storage.query import HistoryPart, Intervals, TimeRange, history_parts
from wire.model import MetricType

HOSTILE = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\"'\\\n/; ="), max_size=20)
LEVEL = Series(1, "d-1", "level", "float")


def scanned(quoted: str) -> tuple[str, str]:
    """Return what InfluxQL's scanner reads from quotes, and the rest after them, following its ScanDelimited."""
    quote, found, place = quoted[0], "", 1
    while quoted[place] != quote:
        assert quoted[place] != "\n", "a bad string"
        if quoted[place] == "\\":
            place += 1
            found += {"n": "\n", "\\": "\\", quote: quote}[quoted[place]]
        else:
            found += quoted[place]
        place += 1
    return found, quoted[place + 1 :]


@given(HOSTILE)
def test_nothing_in_quotes_ends_them(plain: str) -> None:
    """The server reads exactly the text, and nothing of it as a statement."""
    assert scanned(name(plain)) == scanned(text(plain)) == (plain, "")


@given(HOSTILE)
def test_a_regular_expression_ends_where_it_should(plain: str) -> None:
    """Its slashes are escaped; everything else stays as it is."""
    pattern = re.escape(plain)
    inside = regex(pattern)[1:-1]
    assert re.findall(r"(?<!\\)(?:\\\\)*/", inside) == []
    assert inside.replace("\\/", "/") == pattern.replace("\\/", "/")


def parts_of(*series: Series) -> list[HistoryPart]:
    return [part for item in series for part in history_parts(item)]


def test_series_of_one_field_share_a_statement() -> None:
    """There is one statement for each metric and each hundred devices, also with repeated series."""
    naming = SeriesNaming(measurement="telemetry", tags_of=lambda _: {})
    series = [
        Series(device * 2 + place, f"d-{device}", f"m{place}", "float") for device in range(250) for place in (0, 1)
    ]
    groups = group_series(parts_of(*series, *series[:10]), naming)
    assert [len(group.series) for group in groups] == [MAX_DEVICES, MAX_DEVICES, 50] * 2
    assert {item.id for group in groups for item in group.series} == set(range(500))
    assert {group.fields[0].source for group in groups} == {'"telemetry"'}


def test_halves_cover_all_series() -> None:
    """A statement is divided until it is about one series."""
    naming = SeriesNaming(tags_of=lambda _: {})
    (group,) = group_series(parts_of(*(Series(device, f"d-{device}", "level", "float") for device in range(5))), naming)
    halves = split_statement(Statement("#", group, EVER, "float"))
    assert [len(half.group.series) for half in halves] == [2, 3]
    (alone,) = group_series(parts_of(LEVEL), naming)
    assert split_statement(Statement("#", alone, EVER, "float")) == [Statement("#", alone, EVER, "float")]


def test_a_statement_has_everything_in_its_place() -> None:
    """It contains the device by its tag, the field by its type, both bounds, and intervals from their begin."""
    (group,) = group_series(parts_of(LEVEL), SeriesNaming(tags_of=lambda _: {}))
    statement = Statement("top(#, 1)", group, TimeRange(5, 99), "float", Intervals(-7, 10), limit=3)
    assert statement.text() == (
        'SELECT top("level"::float, 1) FROM /^(?:_?.*|telemetry)$/ WHERE ("device"::tag = \'d-1\') '
        'AND time >= 5 AND time <= 99 GROUP BY "device", time(10ns, 3ns) fill(none) LIMIT 3'
    )


def statement(type: MetricType = "float") -> Statement:
    (group,) = group_series(parts_of(Series(7, "d-1", "level", type)), SeriesNaming(tags_of=lambda _: {}))
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
