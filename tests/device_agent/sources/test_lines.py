"""Lines of devices and logs, read by the rules of all inputs."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.sources.lines import (
    HEAD_LINES,
    LOST_LINES,
    MAX_LINE_BYTES,
    ForeignInput,
    LineInput,
    LineResult,
    is_whole,
)
from tests.device_agent.foreign import foreign_input
from wire.model import Metric

NOW = 1_795_878_000_000_000_000
"""2026-11-28T15:00:00Z."""


def read(input: ForeignInput, data: bytes, *, piece: int = 1 << 20) -> list[LineResult]:
    """Return the results of a port that begins with these bytes, which arrive in pieces, and then waits."""
    lines = LineInput(input)
    results = [
        result for start in range(0, len(data), piece) for result in lines.feed(data[start : start + piece], NOW)
    ]
    return results + lines.begin(NOW)


def values(results: list[LineResult]) -> list[dict[str, object]]:
    return [dict(reading.values) for result in results for reading in result.readings]


def codes(results: list[LineResult]) -> list[tuple[str, str]]:
    return [(refusal.code, refusal.metric) for result in results for refusal in result.refusals]


PARTS = st.sampled_from(
    [b'{"t": 21.5}', b'{"t": "x"}', b"noise", b"t=21.5 h=40", b"1,2,3", b"a,b,c", b"$GPHDT,2.7,T", b"", b"nan", b"\xff"]
)  # fmt: skip


@given(st.lists(PARTS, max_size=12), st.integers(1, 30))
@settings(max_examples=200)
def test_where_the_bytes_are_cut_changes_nothing(parts: list[bytes], piece: int) -> None:
    """Readings, refusals and counts are those of the whole stream."""
    data = b"\r\n".join(parts) + b"\r\n"
    whole, cut = foreign_input(), foreign_input()
    found, expected = read(cut, data, piece=piece), read(whole, data)
    assert (values(found), codes(found), cut.counts) == (values(expected), codes(expected), whole.counts)


@given(st.lists(PARTS, max_size=60))
@settings(max_examples=200)
def test_each_line_is_somewhere(parts: list[bytes]) -> None:
    """A line is read, refused, without a value, skipped as the first one, or waits; nothing is counted twice."""
    input = foreign_input()
    results = read(input, b"".join(part + b"\n" for part in (b"first", *parts)))
    counts = input.counts
    assert counts.lines == 1 + sum(bool(part) for part in parts)
    assert counts.readings == sum(map(len, values(results)))
    assert counts.refused == len(codes(results))
    waiting = counts.lines == 1 and not results and not counts.skipped
    assert counts.lines == counts.skipped + len(results) + waiting


@given(st.integers(1, MAX_LINE_BYTES * 3), st.integers(1000, MAX_LINE_BYTES))
@settings(max_examples=50)
def test_a_line_without_an_end_is_refused_once(length: int, piece: int) -> None:
    """Its neighbours are kept, however it arrives."""
    data = b'{"n":1}\n{"x":"' + b"x" * length + b'"}\n{"n":2}\n'
    results = read(foreign_input(), data, piece=piece)
    is_long = length + 8 > MAX_LINE_BYTES
    assert [found for found in values(results) if "n" in found] == [{"n": 1}, {"n": 2}]
    assert codes(results) == ([("size", "")] if is_long else [])


@pytest.mark.parametrize(
    ("messages", "expected", "refused"),
    [
        ([b"t=21.5 h=40", b"t=22.5 h=41\n"], [{"t": 21.5, "h": 40}, {"t": 22.5, "h": 41}], []),
        ([b"time,t\n1795878000,1", b"1795878001,2\n1795878002,3"], [{"t": 1}, {"t": 2}, {"t": 3}], []),
        ([b'{\n "t": 1,\n "imu": {"x": 2}\n}\n'], [{"t": 1, "imu.x": 2}], []),
        ([b'{"t": 1}\n{"t": \n{"t": 3}\n'], [{"t": 1}, {"t": 3}], [("syntax", "")]),
        ([b'{"t": 1}', b'{\n "t": 1,\n "h":\n'], [{"t": 1}], [("syntax", "")]),
        ([gzip.compress(b'{"t": 1}'), gzip.compress(b'{"t": 2}')[:-4]], [{"t": 1}], [("container", "")]),
        ([b"", b"\r\n", b" ", b'{"t": 1}'], [{"t": 1}], []),
        ([b"$IIHDT,274.07,T*14\r\n$IIHDT,274.07,T*15\r\n"], [{"heading": 274.07}], [("checksum", "")]),
    ],
)  # fmt: skip
def test_a_message_is_complete(
    messages: list[bytes], expected: list[dict[str, object]], refused: list[tuple[str, str]]
) -> None:
    """Its first line is no rest of another one, and it needs no line end; JSON in it may span lines."""
    lines = LineInput(foreign_input())
    results = [result for message in messages for result in lines.feed_message(message, NOW)] + lines.begin(NOW)
    assert (values(results), codes(results)) == (expected, refused)


@pytest.mark.parametrize(("is_whole", "expected"), [(True, [1, 2, 3]), (False, [2])])
def test_a_connection_that_begins_and_ends_with_a_line_loses_none(is_whole: bool, expected: list[int]) -> None:
    """Otherwise the first and the last line may be cut, and are skipped unless they prove to be complete."""
    lines = LineInput(input := foreign_input())
    lines.open(is_whole=is_whole)
    results = lines.feed(b"t=1 h=40\nt=2 h=40\nt=3 h=40", NOW) + lines.finish(NOW)
    assert [found["t"] for found in values(results)] == expected
    assert (input.counts.lines, input.counts.skipped) == (3, 0 if is_whole else 2)
    lines.open()
    whole = lines.feed(b't=4 h=40\n{"t": 5}', NOW) + lines.finish(NOW)
    assert codes(whole) == [("syntax", "")]  # a line of another format is read, and not skipped


@pytest.mark.parametrize(
    ("rest", "expected"),
    [(b"$IIHDT,1", []), (b"$IIHDT,1.5,T*2", []), (b"$IIHDT,1.5,T*26", [1.5]), (b"", [])],
)
def test_a_sentence_without_a_checksum_may_be_cut_at_its_end(rest: bytes, expected: list[float]) -> None:
    """A part of its number would be another number."""
    lines = LineInput(foreign_input())
    results = lines.feed(b"$IIHDT,274.07,T*14\r\n" + rest, NOW) + lines.finish(NOW)
    assert [found["heading"] for found in values(results)] == [274.07, *expected]


@pytest.mark.parametrize(
    ("data", "format", "expected"),
    [
        (b'{"t": 21.5, "imu": {"x": 1}}\n', "json", [{"t": 21.5, "imu.x": 1}]),
        (b"time;t;h\n1795878000;21,5;40\n1795878001;22,5;41\n", "csv", [{"t": 21.5, "h": 40}, {"t": 22.5, "h": 41}]),
        (b"1,2\n3,4\n5,6\n", "csv", [{"1": 3, "2": 4}, {"1": 5, "2": 6}]),
        (b"$IIHDT,274.07,T*14\r\n", "nmea", [{"heading": 274.07}]),
        (b"=1 h=2\nt=21.5 h=40\nt=22.5 h=41\n", "pairs", [{"t": 21.5, "h": 40}, {"t": 22.5, "h": 41}]),
        (b"1.5\n21.5\n22.5\n", "value", [{"value": 21.5}, {"value": 22.5}]),
        (b"1 2\n3 4\n5 6\n", "plotter", [{"1": 3, "2": 4}, {"1": 5, "2": 6}]),
        (b'boot v1.2\nready\n{"t": 21.5}\n{"t": 22.5}\n', "json", [{"t": 21.5}, {"t": 22.5}]),
    ],
)
def test_the_format_comes_from_the_first_lines(data: bytes, format: str, expected: list[dict[str, object]]) -> None:
    """The first line may be the rest of one: it counts if it is a header, or proves that it is complete."""
    input = foreign_input()
    assert values(read(input, data)) == expected
    assert input.counts.format == format
    assert input.counts.reason


def test_a_line_of_json_or_nmea_decides_at_once() -> None:
    """It does not wait for others."""
    lines = LineInput(foreign_input())
    assert values(lines.feed(b'{"t": 1}\n', NOW)) == [{"t": 1}]
    assert not lines.is_waiting


def test_other_lines_wait_and_keep_their_arrival() -> None:
    """A line that arrives now has no time of its own; the sender's clock starts at its first line."""
    input = foreign_input()
    lines = LineInput(input)
    for number in range(HEAD_LINES - 1):
        assert lines.feed(b"t=%d\n" % number, NOW + number) == []
        assert lines.is_waiting == (number > 0)
    results = lines.feed(b"t=%d\n" % HEAD_LINES, NOW + 9)
    assert [reading.time_ns for result in results for reading in result.readings] == [NOW + 1, NOW + 2, NOW + 3, None]
    assert (input.counts.skipped, lines.is_waiting) == (1, False)


def test_an_uptime_counts_from_the_arrival_of_its_first_line() -> None:
    """Although that line waited for the others."""
    lines = LineInput(foreign_input(time="uptime_ms"))
    for number in range(HEAD_LINES):
        results = lines.feed(b"time=%d t=1\n" % (1000 * number), NOW + number * 10**9)
    assert [reading.time_ns for result in results for reading in result.readings] == [
        NOW + number * 10**9 for number in range(1, HEAD_LINES)
    ]


def test_the_first_line_of_a_new_connection_may_be_a_rest() -> None:
    """It is read if it proves that it is complete. The format stays."""
    input = foreign_input(format="pairs")
    lines = LineInput(input)
    lines.feed(b"t=1\nt=2\n", NOW)
    lines.begin(NOW)
    lines.feed(b"t=", NOW)
    lines.open()
    assert values(lines.feed(b"2.5 h=1\nt=3\n", NOW)) == [{"t": 3}]
    json = LineInput(foreign_input())
    json.feed(b'{"t":1}\n', NOW)
    json.open()
    assert values(json.feed(b'{"t":2}\n', NOW)) == [{"t": 2}]


def test_another_format_is_detected_after_unreadable_lines() -> None:
    """The device was replaced, or has another program. A format that the rules set stays."""
    data = b'{"t":1}\n' + b"t=2 h=3\n" * (LOST_LINES + HEAD_LINES)
    results = read(input := foreign_input(), data)
    assert (input.counts.format, len(values(results)), len(codes(results))) == ("pairs", 1 + HEAD_LINES, LOST_LINES)
    results = read(foreign_input(format="json"), data)
    assert len(codes(results)) == LOST_LINES + HEAD_LINES


def test_lines_without_a_format_are_refused() -> None:
    """The reason says what to set."""
    (result, *_) = results = read(input := foreign_input(), b"#\nhello\nworld\nout\nthere\nonce\n")
    assert {code for code, _ in codes(results)} == {"format"}
    assert "set `format`" in result.refusals[0].reason
    assert (input.counts.format, input.counts.refused, input.counts.skipped) == ("", 5, 1)


def test_metrics_come_with_their_first_reading_and_when_they_change() -> None:
    """With type, unit and the original name."""
    results = read(foreign_input(format="pairs"), "x\nt=21.5 °C\non=yes\nt=22 °C\n".encode())
    found = [reading.metrics for result in results for reading in result.readings]
    assert found == [(Metric("t", "float", "°C"),), (Metric("on", "boolean"),), ()]


def test_a_known_type_wins_over_the_first_value() -> None:
    """A value of another type is refused, and its neighbours are read."""
    input = foreign_input()
    input.known_type = lambda device, metric: "float" if metric == "t" else None
    results = read(input, b'{"t":"off","n":1}\n')
    assert (values(results), codes(results)) == ([{"n": 1}], [("type", "t")])


def test_the_device_is_that_of_the_agent() -> None:
    """A field with this name is a value."""
    assert values(read(foreign_input(), b'{"device":"x7","t":1}\n')) == [{"device": "x7", "t": 1}]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'{"t": 1}', True),
        (b'{"t": nan}', True),
        (b"[1, 2]", True),
        (b"$GPGGA,1*00", True),
        (b'"t": 1}', False),
        (b'{"t": {"x": 1}', False),
        (b"21.5", False),
        (b"t=21.5", False),
    ],
)
def test_a_line_can_prove_that_it_is_complete(line: bytes, expected: bool) -> None:
    """JSON has an end and a beginning, a sentence of NMEA its mark."""
    assert is_whole(line) == expected


@given(st.integers(1, 40))
def test_the_rest_of_a_line_is_never_whole(cut: int) -> None:
    """Wherever the port was opened in a line of JSON."""
    assert not is_whole(b'{"t": 21.5, "imu": {"x": 1.25}, "label": "{}"}'[cut:])
