"""Lines of JSON objects, from a port or a file."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.sources import SensorReading
from device_agent.sources.lines import (
    BLOCK_BYTES,
    MAX_DEPTH,
    MAX_LINE_BYTES,
    BadLine,
    Framing,
    ReplaySource,
    parse_line,
    parse_time,
)
from tests.device_agent.records import agent_records


@given(st.lists(st.binary(max_size=20).filter(lambda line: b"\n" not in line)), st.lists(st.integers(1, 9)))
def test_lines_are_the_same_however_they_arrive(lines: list[bytes], pieces: list[int]) -> None:
    """Cut at any places, a stream gives the same lines, stripped, without blank ones."""
    stream = b"".join(line + b"\r\n" for line in lines)
    framing = Framing()
    found: list[bytes] = []
    for piece in pieces:
        found += framing.feed(stream[:piece])
        stream = stream[piece:]
    found += framing.feed(stream)
    assert found == [line.strip() for line in lines if line.strip()]
    assert framing.overlong == 0


@given(st.integers(1, MAX_LINE_BYTES * 3), st.integers(1, MAX_LINE_BYTES))
def test_a_line_without_an_end_is_dropped_and_counted(length: int, piece: int) -> None:
    """A line that is too long is dropped once, up to its end, however it arrives; its neighbours are kept."""
    stream = b"before\n" + b"x" * length + b"\nafter\n"
    framing = Framing()
    found = [line for start in range(0, len(stream), piece) for line in framing.feed(stream[start : start + piece])]
    if length > MAX_LINE_BYTES:
        assert (found, framing.overlong) == ([b"before", b"after"], 1)
    else:
        assert (found, framing.overlong) == ([b"before", b"x" * length, b"after"], 0)


def test_a_line_is_a_reading() -> None:
    """Each member is a metric, objects within it are flattened with dots, and null is no value."""
    reading = parse_line(b'{"t": 21.5, "on": true, "imu": {"x": 1, "g": {"z": -2}}, "name": "\xc2\xb5", "none": null}')
    assert reading.values == {"t": 21.5, "on": True, "imu.x": 1, "imu.g.z": -2, "name": "µ", "none": None}
    assert (reading.time_ns, reading.metrics) == (None, ())


@pytest.mark.parametrize(
    ("time", "time_ns"),
    [
        (1_700_000_000_000_000_001, 1_700_000_000_000_000_001),
        ("1970-01-01T00:00:00Z", 0),
        ("2023-11-14T22:13:20Z", 1_700_000_000_000_000_000),
        ("2023-11-14T22:13:20.000000001Z", 1_700_000_000_000_000_001),
        ("2023-11-14T22:13:20.5+00:00", 1_700_000_000_500_000_000),
        ("2023-11-14T23:43:20,25+01:30", 1_700_000_000_250_000_000),
        ("1969-12-31T23:59:59Z", -1_000_000_000),
    ],
)
def test_a_time_is_nanoseconds_or_text(time: object, time_ns: int) -> None:
    """RFC 3339 with all nine digits, or the nanoseconds themselves."""
    assert parse_time(time) == time_ns


@pytest.mark.parametrize("time", [1.5, True, "yesterday", "2023-11-14T22:13:20", "2023-11-14", [], {}])
def test_a_time_is_never_guessed(time: object) -> None:
    """A time without a zone, and anything that is no time, makes a bad line."""
    with pytest.raises(BadLine):
        parse_time(time)


@pytest.mark.parametrize(
    "line",
    [
        b"hello",
        b"21.5",
        b"[1, 2]",
        b'{"t": 21.5',
        b'{"t": NaN}',
        b'{"t": [1, 2]}',
        b'{"t": "\xff"}',
        b'{"a": {"b": 1}, "a.b": 2}',
        b'{"t": 1, "time": "noon"}',
        b'{"a":' * MAX_DEPTH + b'{"b":1}' + b"}" * MAX_DEPTH,
        b'{"a":' * 5000,
    ],
)
def test_a_bad_line_is_one_error(line: bytes) -> None:
    """Whatever is no object of values is a BadLine."""
    with pytest.raises(BadLine):
        parse_line(line)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_reading_or_a_bad_line(line: bytes) -> None:
    """Noise on a wire is never another error."""
    try:
        parse_line(line)
    except BadLine:
        return


@given(st.integers(1, 40))
def test_the_end_of_a_line_is_no_reading(cut: int) -> None:
    """The rest of a line, read after the port was opened in its middle, never counts as a whole line."""
    line = b'{"t": 21.5, "imu": {"x": 1.25}, "label": "{}"}'
    with pytest.raises(BadLine):
        parse_line(line[cut:])


async def everything(source: ReplaySource) -> list[SensorReading]:
    return [reading async for reading in source.readings()]


async def test_a_log_is_its_readings_in_order(tmp_path: Path) -> None:
    """Each line with a time is a reading; blank lines, and a last one without an end, are no trouble."""
    file = tmp_path / "log.jsonl"
    file.write_text('{"time": 2, "n": 1}\n\n{"time": "1970-01-01T00:00:01Z", "a": {"b": true}}\r\n{"time": 1, "n": 3}')
    source = ReplaySource(file)
    assert await everything(source) == [
        SensorReading({"n": 1}, 2), SensorReading({"a.b": True}, 1_000_000_000), SensorReading({"n": 3}, 1),
    ]  # fmt: skip
    assert source.bad_lines == 0


async def test_bad_lines_are_counted_and_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A line without a time, and one that is no reading, is passed over."""
    file = tmp_path / "log.jsonl"
    endless = b'{"time": 1, "n": "' + b"x" * MAX_LINE_BYTES + b'"}\n'
    file.write_bytes(b'{"n": 1}\n{"time": 1, "n": 2}\nnoise\n{"time": "noon", "n": 3}\n' + endless)
    source = ReplaySource(file)
    assert await everything(source) == [SensorReading({"n": 2}, 1)]
    assert source.bad_lines == 4
    assert source.health.error is not None
    assert source.health.error.startswith("4 unreadable lines, the last: ")
    assert [record.levelno for record in agent_records(caplog)] == [logging.WARNING]


async def test_a_log_larger_than_a_block_is_whole(tmp_path: Path) -> None:
    """Blocks of the file join without a loss."""
    file = tmp_path / "log.jsonl"
    count = 3 * BLOCK_BYTES // 100
    file.write_text("".join(f'{{"time": {number}, "text": "{"x" * 80}"}}\n' for number in range(count)))
    assert [reading.time_ns for reading in await everything(ReplaySource(file))] == list(range(count))


async def test_a_speed_keeps_the_distances(tmp_path: Path) -> None:
    """With a speed the readings come when they are due, relative to the first."""
    file = tmp_path / "log.jsonl"
    file.write_text("".join(f'{{"time": {number * 10**9}, "n": {number}}}\n' for number in range(4)))
    loop = asyncio.get_running_loop()
    began = loop.time()
    due = [loop.time() - began async for _ in ReplaySource(file, speed=100).readings()]
    assert all(moment >= number / 100 for number, moment in enumerate(due))
