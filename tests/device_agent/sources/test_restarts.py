"""A board's restart in the lines that it writes: banners, counters that fall, a port that comes back."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.source_state import SourceEvent
from device_agent.sources.lines import LineInput
from device_agent.sources.restarts import SETTLED_NS, RestartDetector
from tests.device_agent.foreign import foreign_input

S = 10**9


def events_of(*lines: bytes, period_ns: int = S, **rules: Any) -> list[SourceEvent]:
    """Return the restarts in lines that arrive one after the other, the first one at 0."""
    lines_ = LineInput(foreign_input(**rules))
    lines_.open(is_whole=True)
    return [
        event
        for number, line in enumerate(lines)
        for result in lines_.feed(line + b"\n", number * period_ns)
        for event in result.events
    ]


ESP32 = (
    b"ets Jun  8 2016 00:22:57",
    b"",
    b"rst:0x1 (POWERON_RESET),boot:0x13 (SPI_FAST_FLASH_BOOT)",
    b"configsip: 0, SPIWP:0xee",
    b"entry 0x400805f0",
)


def test_the_banner_of_a_boot_loader_is_one_restart_with_its_cause() -> None:
    """It has the time of the first line of the banner, and is complete with the first reading after it."""
    found = events_of(b'{"t": 1}', *ESP32, b'{"t": 2, "uptime": 1}', b'{"t": 3, "uptime": 2}')
    assert found == [SourceEvent("restarted", ESP32[2].decode(), S)]


@pytest.mark.parametrize(
    "banner",
    [
        b" ets Jan  8 2013,rst cause:2, boot mode:(3,6)",
        b"ESP-ROM:esp32s3-20210327",
        b"rst:0xc (RTC_SW_CPU_RST),boot:0x8 (SPI_FAST_FLASH_BOOT)",
        b"*** Booting Zephyr OS build v3.7.0 ***",
        b"MPY: soft reboot",
        b"MicroPython v1.24.0 on 2024-10-25; ESP32C3 module with ESP32C3",
        b"U-Boot 2024.01 (Jan 08 2024 - 15:37:48 +0000)",
        b"00:00:00.001-026 Project tasmota - Tasmota Version 14.2.0(tasmota)-3_1_0(2024-08-14T12:40:15)",
    ],
)
def test_banners_of_boards_and_systems(banner: bytes) -> None:
    """Each is the detail of the event."""
    (event,) = events_of(b'{"t": 1}', banner, b'{"t": 2}')
    assert event.detail == banner.strip().decode()


@pytest.mark.parametrize(
    "line", [b'{"t": 1, "note": "first try"}', b"first: 1", b"burst:0x1 (X)", b"t=1 sets Jun 8 2016", b"2016"]
)
def test_ordinary_lines_are_no_banner(line: bytes) -> None:
    """Words that look like a part of one say nothing."""
    assert events_of(b'{"t": 1}', line, b'{"t": 2}') == []


@pytest.mark.parametrize("name", ["uptime", "millis", "sys.uptime_ms", "Uptime_s"])
def test_a_counter_that_falls_is_a_restart(name: str) -> None:
    """The detail has both numbers; a counter that rises, or another metric that falls, says nothing."""
    lines = [f"{name}={count} t={-count}".encode() for count in (100, 200, 300, 5, 105, 205)]
    assert events_of(*lines, format="pairs") == [SourceEvent("restarted", f"{name} fell from 300 to 5", 3 * S)]


def test_a_counter_of_32_bits_that_rolls_over_is_no_restart() -> None:
    """It was near its end."""
    lines = [f"millis={count % 2**32}".encode() for count in range(2**32 - 3000, 2**32 + 3000, 1000)]
    assert events_of(*lines, format="pairs") == []


def test_an_uptime_that_is_the_time_of_the_readings() -> None:
    """The interpretation of times finds the restart."""
    lines = [f'{{"t": 1, "ms": {count}}}'.encode() for count in (1000, 2000, 3000, 10, 1010)]
    (event,) = events_of(*lines, time=["ms"], time_format="uptime_ms")
    assert event == SourceEvent("restarted", "the uptime fell", 3 * S)


def test_all_signs_of_one_restart_are_one_event() -> None:
    """The port comes back, the banner follows, and the uptime begins again: the cause is the detail."""
    detector = RestartDetector()
    detector.read_values({"uptime": 500}, 0)
    detector.reopen(10 * S)
    for number, line in enumerate(ESP32):
        detector.read_line(line, 10 * S + number)
    assert detector.take() == []
    detector.read_values({"uptime": 1}, 11 * S)
    detector.read_values({"uptime": 2}, 12 * S)
    assert detector.take() == [SourceEvent("restarted", ESP32[2].decode(), 10 * S)]


def test_a_board_that_never_gets_to_a_reading_is_seen() -> None:
    """In a loop of restarts, each is an event when the next one begins, at most one in some seconds."""
    found = events_of(b'{"t": 1}', *[ESP32[2]] * 100, period_ns=S)
    times = [event.time_ns for event in found]
    assert len(times) >= 5
    assert all(later - earlier >= SETTLED_NS for earlier, later in pairwise(times))


@given(st.lists(st.binary(max_size=60) | st.sampled_from([*ESP32, b"uptime=1", b"uptime=9"]), max_size=30))
def test_any_lines_give_bounded_events(lines: list[bytes]) -> None:
    """No line is an error, and no two events are within the time of one restart."""
    found = events_of(*(line.replace(b"\n", b"") for line in lines))
    times = [event.time_ns for event in found]
    assert all(later - earlier >= SETTLED_NS for earlier, later in pairwise(times))
    assert all(len(event.detail) <= 1000 for event in found)
