"""Recorded files as sources: as history, and live."""

from __future__ import annotations

import asyncio
import gzip
import logging
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import ValidationError, convert

from device_agent.sources import SensorReading
from device_agent.sources.lines import ForeignInput
from device_agent.sources.replay import BLOCK_BYTES, Playback, ReplaySettings, ReplaySource
from tests.conditions import until
from tests.device_agent.collected import collected
from tests.device_agent.foreign import foreign_input
from tests.device_agent.records import agent_records
from wire.model import Value

NOW = 1_795_878_000_000_000_000
"""2026-11-28T15:00:00Z."""


def replay(file: Path, input: ForeignInput | None = None, **settings: Any) -> ReplaySource:
    return ReplaySource(ReplaySettings(file=file, **settings), input or foreign_input())


async def everything(source: ReplaySource) -> list[SensorReading]:
    return [reading._replace(metrics=()) async for reading in source.readings()]


def history(*rows: tuple[int, dict[str, Value]]) -> list[SensorReading]:
    """Return these rows as readings of a log; times are in seconds."""
    return [SensorReading(values, time_s * 10**9, historical=True) for time_s, values in rows]


async def test_a_log_is_its_readings_in_order(tmp_path: Path) -> None:
    """Each line with a time is a reading; blank lines, and a last one without an end, are no trouble."""
    file = tmp_path / "log.jsonl"
    file.write_text('{"time": 2, "n": 1}\n\n{"time": "1970-01-01T00:00:01Z", "a": {"b": true}}\r\n{"time": 1, "n": 3}')
    source = replay(file, input := foreign_input())
    assert await everything(source) == history((2, {"n": 1}), (1, {"a.b": True}), (1, {"n": 3}))
    assert (input.counts.refused, input.counts.readings, input.counts.odd_times) == (0, 3, 3)


async def test_a_table_is_a_log_too(tmp_path: Path) -> None:
    """Also one of plain numbers, whose first column is the time."""
    file = tmp_path / "log.csv"
    file.write_text("time,t\n" + "".join(f"{1_795_878_000 + number},{number}\n" for number in range(5000)))
    readings = await everything(replay(file))
    assert [reading.time_ns for reading in readings] == [NOW + number * 10**9 for number in range(5000)]


async def test_refused_lines_are_counted_and_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A line without a time, and one that is no reading, is passed over and given to the agent."""
    file = tmp_path / "log.jsonl"
    file.write_bytes(b'{"n": 1}\n{"time": 1, "n": 2}\nnoise\n{"time": 2, "n": "x"}\n{"time": 3, "n": 4}\n')
    source = replay(file, input := foreign_input())
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
    source = replay(file, input := foreign_input())
    assert await everything(source) == []
    assert (input.counts.refused, input.counts.readings) == (20_000, 0)


async def test_a_log_larger_than_a_block_is_whole(tmp_path: Path) -> None:
    """Blocks of the file join without a loss."""
    file = tmp_path / "log.jsonl"
    count = 3 * BLOCK_BYTES // 100
    file.write_text("".join(f'{{"time": {number}, "text": "{"x" * 80}"}}\n' for number in range(count)))
    readings = await everything(replay(file))
    assert [reading.time_ns for reading in readings] == [number * 10**9 for number in range(count)]


async def test_a_speed_keeps_the_distances(tmp_path: Path) -> None:
    """With a speed the readings come when they are due, relative to the first."""
    file = tmp_path / "log.jsonl"
    file.write_text("".join(f'{{"time": {number}, "n": {number}}}\n' for number in range(4)))
    loop = asyncio.get_running_loop()
    began = loop.time()
    due = [loop.time() - began async for _ in replay(file, speed=100.0).readings()]
    assert all(moment >= number / 100 for number, moment in enumerate(due))


async def test_a_compressed_log_is_read(tmp_path: Path) -> None:
    """With gzip, whatever its name is; a damaged one is an error after the readings before the damage."""
    file = tmp_path / "log.jsonl"
    content = gzip.compress(b"".join(b'{"time": %d, "n": 1}\n' % number for number in range(2000)))
    file.write_bytes(content)
    assert len(await everything(replay(file))) == 2000
    file.write_bytes(content[:-9])
    with pytest.raises(OSError, match="the file is compressed and damaged"):
        await everything(replay(file))


async def test_a_live_log_happens_now(tmp_path: Path) -> None:
    """Its times keep their distances, divided by the speed, and a record without one has that of the record before."""
    file = tmp_path / "log.jsonl"
    file.write_text('{"time": 100, "n": 0}\n{"n": 1}\n{"time": 102, "n": 2}\n{"time": 101, "n": 3}\n')
    before = time.time_ns()
    readings = await everything(replay(file, live=True, speed=20.0))
    assert [reading.values for reading in readings] == [{"n": number} for number in range(4)]
    times = [reading.time_ns or 0 for reading in readings]
    assert [time_ns - times[0] for time_ns in times] == [0, 0, 10**8, 10**8]
    assert before <= times[0] <= times[-1] <= time.time_ns()
    assert not any(reading.historical for reading in readings)


async def test_a_live_log_without_times_has_an_interval(tmp_path: Path) -> None:
    """So a recording of any port can be played again."""
    file = tmp_path / "log.txt"
    file.write_text("t=1 h=4\nt=2 h=4\nt=3 h=4\n")
    source = replay(file, input := foreign_input(), live=True, speed=10.0, interval_s=0.5)
    times = [reading.time_ns or 0 for reading in await everything(source)]
    assert [time_ns - times[0] for time_ns in times] == [0, 5 * 10**7, 10**8]
    assert input.counts.refused == 0


async def test_a_loop_begins_again_one_step_later(tmp_path: Path) -> None:
    """Times increase, and lines are counted in each pass."""
    file = tmp_path / "log.jsonl"
    file.write_text('{"time": 100, "n": 0}\n{"time": 101, "n": 1}\n')
    source = replay(file, live=True, speed=50.0, loop=True)
    async with collected(source) as found:
        await until(lambda: len(found.readings) >= 6)
    times = [reading.time_ns or 0 for reading in found.readings[:6]]
    assert [time_ns - times[0] for time_ns in times] == [number * 2 * 10**7 for number in range(6)]
    assert found.counts.lines >= 6


async def test_a_loop_without_readings_is_a_failure(tmp_path: Path) -> None:
    """It does not keep the agent busy."""
    (file := tmp_path / "log.txt").write_text("\n")
    async with collected(replay(file, live=True, loop=True)) as found:
        await found.until_error("the file contains no readings")


@given(st.lists(st.none() | st.integers(0, 10**12), min_size=1, max_size=20), st.floats(0.01, 100))
def test_places_never_go_back(times: list[int | None], speed: float) -> None:
    """Whatever the order of the times is, and also when the file begins again."""
    playback = Playback(speed, 1.0)
    places = [playback.place(time_ns) for time_ns in times]
    playback.rewind()
    places += [playback.place(time_ns) for time_ns in times]
    assert places == sorted(places)
    assert places[0] == 0
    assert places[len(times)] > places[len(times) - 1]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"loop": True}, "loop is for live replay: history that is sent again is stored again"),
        ({"speed": 0}, "Expected `float` >= 0.001"),
        ({"interval_s": 0}, "Expected `float` > 0"),
    ],
)
def test_wrong_settings_say_what_is_wrong(settings: dict[str, object], reason: str) -> None:
    """History is never sent twice by a setting."""
    with pytest.raises(ValidationError, match=reason):
        convert({"file": "x", **settings}, ReplaySettings, dec_hook=lambda kind, value: kind(value))
    assert [key for key, _ in ReplaySettings(file=Path("/no/such/file")).problems()] == ["file"]
