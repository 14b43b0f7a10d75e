"""Laws of reading: any bytes are rows, refusals or wait for more; where a stream is cut changes nothing."""

from __future__ import annotations

import math
import tomllib
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formats.rules import rules_of, rules_text
from tests.formats.reading_of import CASES, Content, read
from wire.limits import MAX_INTEGER, MIN_INTEGER
from wire.model import DeviceId, MetricName

FORMATS = ["auto", "json", "senml", "line", "csv", "pairs", "plotter", "nmea", "value"]

PIECES = st.sampled_from(
    [
        b"temp",
        b"=",
        b":",
        b",",
        b";",
        b"\t",
        b" ",
        b"\n",
        b"\r",
        b'"',
        b"'",
        b"{",
        b"}",
        b"[",
        b"]",
        b"21.5",
        b"1,234",
        b"-1",
        b"nan",
        b"null",
        b"true",
        b"on",
        b"time",
        b"2026-11-28T15:00:00Z",
        b"1795878000",
        b"24:00",
        b"03/04/2026",
        b"$GPGGA,",
        b"*47",
        b"#datatype",
        b"sep=;",
        b"TOA5",
        b"Plot Title: x",
        b"\0",
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"\xc3",
        b"\xc3\xbc",
        b"1e400",
        b"9" * 30,
        b"\\",
        b"m a=1i 5\n",
        b"host=a",
        b'{"bn":"a","v":1}',
        b"%",
        "°C".encode(),
        b"(",
        b"#",
    ]
)
"""Pieces of all formats: their mixtures reach more of the code than random bytes."""

MIXED = st.lists(st.one_of(PIECES, st.binary(max_size=4)), max_size=40).map(b"".join)


def outcome(content: Content) -> tuple[Any, ...]:
    """Return everything that a caller can see of a reading."""
    interpreter = content.reading.interpreter
    metrics = [
        (device, series.metric, series.type, series.unit, series.label)
        for device, known in interpreter.metrics.items()
        for series in known.values()
    ]
    return content.rows, content.refusals, metrics, interpreter.no_values, content.reading.notes


@pytest.mark.parametrize("format", FORMATS)
@given(data=MIXED, window=st.sampled_from([1, 3, 2000]))
@settings(max_examples=80, deadline=None)
def test_any_bytes_give_rows_or_refusals(format: str, data: bytes, window: int) -> None:
    """Rows have legal names and finite values, a refusal has a code and a reason, and nothing raises."""
    content = read(data, window=window, format=format)
    for row in content.rows:
        assert row.values
        assert row.device == "" or msgspec.convert(row.device, DeviceId)
        assert row.time_ns is None or 0 <= row.time_ns <= MAX_INTEGER
        for metric, value in row.values.items():
            msgspec.convert(metric, MetricName)
            assert isinstance(value, bool | int | float | str)
            assert not isinstance(value, float) or math.isfinite(value)
            assert isinstance(value, bool) or not isinstance(value, int) or MIN_INTEGER <= value <= MAX_INTEGER
            if isinstance(value, str):
                value.encode()
    assert all(refusal.reason and refusal.line for refusal in content.refusals)


@pytest.mark.parametrize("format", FORMATS)
@given(data=MIXED, piece=st.integers(1, 20), window=st.sampled_from([1, 3, 2000]))
@settings(max_examples=60, deadline=None)
def test_cutting_the_stream_anywhere_changes_nothing(format: str, data: bytes, piece: int, window: int) -> None:
    """Rows, refusals, metrics and notes are those of the whole stream."""
    assert outcome(read(data, window=window, format=format, piece=piece)) == outcome(
        read(data, window=window, format=format)
    )


@pytest.mark.parametrize("name", sorted(path.name for path in CASES.iterdir()))
def test_the_settings_to_copy_give_the_same_content(name: str) -> None:
    """A file that is read by the printed settings has the same rows and refusals."""
    data = (CASES / name).read_bytes()
    first = read(data)
    rules = first.reading.settings()
    assert rules_of(tomllib.loads(rules_text(rules))) == rules
    again = read(data, **msgspec.to_builtins(rules))
    assert again.rows == first.rows
    assert [(r.line, r.code) for r in again.refusals] == [(r.line, r.code) for r in first.refusals]


@given(
    rows=st.lists(
        st.tuples(st.integers(631_152_000, 1_795_879_800), st.floats(allow_nan=False, allow_infinity=False, width=32)),
        min_size=1,
        max_size=30,
    ),
    mark=st.sampled_from([".", ","]),
)
@settings(max_examples=50, deadline=None)
def test_written_numbers_are_read_back(rows: list[tuple[int, float]], mark: str) -> None:
    """A table with a declared decimal mark has the numbers that were written into it."""
    text = "time;x\n" + "".join(f"{time};{value!r}\n".replace(".", mark) for time, value in rows)
    content = read(text, format="csv", delimiter=";", decimal=mark)
    assert content.column("x") == [value for _, value in rows]
    assert content.times == [time * 10**9 for time, _ in rows]


def test_a_stream_of_single_lines_decides_by_its_first_line() -> None:
    """A window of one frame gives each reading at once."""
    content = read("temp=21.5 hum=40\ntemp=21.6 hum=41\n", window=1)
    assert content.values == [{"temp": 21.5, "hum": 40.0}, {"temp": 21.6, "hum": 41.0}]
    assert content.reading.detection is not None
    assert content.reading.detection.format == "pairs"


def test_a_frame_that_is_too_long_is_one_refusal() -> None:
    """Its beginning is kept, and the next line is read."""
    content = read(b'{"temp":1}\n' + b"x" * 3_000_000 + b'\n{"temp":2}\n', piece=100_000)
    assert content.column("temp") == [1.0, 2.0]
    assert content.codes == [(2, "size")]
    assert len(content.refusals[0].raw) == 4096
