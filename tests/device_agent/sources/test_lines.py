"""Lines of devices and logs, read by the rules of all inputs."""

from __future__ import annotations

import asyncio
import gzip
import logging
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.sources import SensorReading
from device_agent.sources.lines import (
    BLOCK_BYTES,
    HEAD_LINES,
    LOST_LINES,
    MAX_LINE_BYTES,
    ForeignInput,
    LineInput,
    LineResult,
    ReplaySource,
    is_whole,
)
from tests.device_agent.foreign import foreign_input
from tests.device_agent.records import agent_records
from wire.model import Metric, Value

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


async def everything(source: ReplaySource) -> list[SensorReading]:
    return [reading._replace(metrics=()) async for reading in source.readings()]


def history(*rows: tuple[int, dict[str, Value]]) -> list[SensorReading]:
    """Return these rows as readings of a log; times are in seconds."""
    return [SensorReading(values, time_s * 10**9, historical=True) for time_s, values in rows]


async def test_a_log_is_its_readings_in_order(tmp_path: Path) -> None:
    """Each line with a time is a reading; blank lines, and a last one without an end, are no trouble."""
    file = tmp_path / "log.jsonl"
    file.write_text('{"time": 2, "n": 1}\n\n{"time": "1970-01-01T00:00:01Z", "a": {"b": true}}\r\n{"time": 1, "n": 3}')
    source = ReplaySource(file, input := foreign_input())
    assert await everything(source) == history((2, {"n": 1}), (1, {"a.b": True}), (1, {"n": 3}))
    assert (input.counts.refused, input.counts.readings, input.counts.odd_times) == (0, 3, 3)


async def test_a_table_is_a_log_too(tmp_path: Path) -> None:
    """Also one of plain numbers, whose first column is the time."""
    file = tmp_path / "log.csv"
    file.write_text("time,t\n" + "".join(f"{1_795_878_000 + number},{number}\n" for number in range(5000)))
    readings = await everything(ReplaySource(file, foreign_input()))
    assert [reading.time_ns for reading in readings] == [NOW + number * 10**9 for number in range(5000)]


async def test_refused_lines_are_counted_and_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A line without a time, and one that is no reading, is passed over and given to the agent."""
    file = tmp_path / "log.jsonl"
    file.write_bytes(b'{"n": 1}\n{"time": 1, "n": 2}\nnoise\n{"time": 2, "n": "x"}\n{"time": 3, "n": 4}\n')
    source = ReplaySource(file, input := foreign_input())
    refused: list[str] = []
    errors: list[str | None] = []
    source.health.on_change = lambda health: errors.append(health.error)
    source.health.on_refused = lambda refusals: refused.extend(refusal.code for refusal in refusals)
    assert await everything(source) == history((1, {"n": 2}), (3, {"n": 4}))
    assert (input.counts.refused, sorted(refused)) == (3, ["syntax", "time", "type"])
    assert (errors[0] or "").startswith("3 refused, the last: ")
    assert errors[-1] is source.health.error is None
    assert [record.levelno for record in agent_records(caplog)] == [logging.WARNING]


async def test_a_log_of_plain_numbers_without_a_time_is_refused(tmp_path: Path) -> None:
    """Its lines are read as blocks, and each is refused."""
    file = tmp_path / "log.csv"
    file.write_text("a,b\n" + "1,2\n" * 20_000)
    source = ReplaySource(file, input := foreign_input())
    assert await everything(source) == []
    assert (input.counts.refused, input.counts.readings) == (20_000, 0)


async def test_a_log_larger_than_a_block_is_whole(tmp_path: Path) -> None:
    """Blocks of the file join without a loss."""
    file = tmp_path / "log.jsonl"
    count = 3 * BLOCK_BYTES // 100
    file.write_text("".join(f'{{"time": {number}, "text": "{"x" * 80}"}}\n' for number in range(count)))
    readings = await everything(ReplaySource(file, foreign_input()))
    assert [reading.time_ns for reading in readings] == [number * 10**9 for number in range(count)]


async def test_a_speed_keeps_the_distances(tmp_path: Path) -> None:
    """With a speed the readings come when they are due, relative to the first."""
    file = tmp_path / "log.jsonl"
    file.write_text("".join(f'{{"time": {number}, "n": {number}}}\n' for number in range(4)))
    loop = asyncio.get_running_loop()
    began = loop.time()
    due = [loop.time() - began async for _ in ReplaySource(file, foreign_input(), speed=100).readings()]
    assert all(moment >= number / 100 for number, moment in enumerate(due))
