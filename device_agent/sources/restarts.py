"""Detection of a board's restart in the lines that it writes. Pure: times are arguments.

A restart has up to three signs, in this order: the port disappears and is opened again, the board writes the banner of
its boot loader or its system, and a counter of its uptime begins again. All signs of one restart are one event.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from device_agent.source_state import SourceEvent
from wire.model import Value
from wire.text import escaped

RESTARTED = "restarted"
"""Kind of the event."""

SETTLED_NS = 10 * 10**9
"""Time after a sign in which further signs belong to the same restart: a board writes its first reading within it."""

ROLL_OVER = 2**32
ROLL_OVER_MARGIN = 2**32 // 20
"""A counter of 32 bits begins again by itself. It was within a twentieth of its end then."""

MAX_BANNER_BYTES = 120
"""Bytes of a banner that are shown."""

MAX_COUNTERS = 16
"""Counters of uptime of one input. A board has one, and several boards behind one line a few."""

_COUNTERS = frozenset({
    "uptime", "uptime_s", "uptime_ms", "uptime_us", "uptimems", "millis", "micros", "up", "time_up", "ontime",
})  # fmt: skip
"""Names of counters that begin at the start of a board, in small letters."""


class Banner(NamedTuple):
    """Line that a board writes when it starts. One that `is_cause` says why."""

    pattern: re.Pattern[bytes]
    is_cause: bool = False


BANNERS = (
    Banner(re.compile(rb"\brst:0x[0-9a-f]+ \([A-Z0-9_]+\)"), is_cause=True),  # ESP32: rst:0x1 (POWERON_RESET),boot:0x13
    Banner(re.compile(rb"\brst cause:\s?\d"), is_cause=True),  # ESP8266: ets Jan  8 2013,rst cause:2, boot mode:(3,6)
    Banner(re.compile(rb"^\s*ets [A-Z][a-z]{2} +\d{1,2} \d{4}")),
    Banner(re.compile(rb"^ESP-ROM:esp")),
    Banner(re.compile(rb"^\*\*\* Booting Zephyr OS ")),
    Banner(re.compile(rb"^(?:MPY: soft reboot|MicroPython v\d|Adafruit CircuitPython \d)")),
    Banner(re.compile(rb"^(?:U-Boot \d{4}\.|RIOT native|main\(\): This is RIOT!|NuttShell \(NSH\))")),
    Banner(re.compile(rb"\bProject \S+ - .* Version \d+\.\d+\S*\(tasmota")),
)
"""Banners of common boards and systems, from their documentation. A sketch for an Arduino writes none by itself."""


class RestartDetector:
    """The restarts of the board behind one input. A restart is complete with the next reading."""

    def __init__(self) -> None:
        self._counters: dict[str, float] = {}
        self._detail = ""
        self._has_cause = False
        self._since_ns: int | None = None
        self._reported_ns: int | None = None
        self._complete: list[SourceEvent] = []

    def reopen(self, now_ns: int) -> None:
        """Record that the port is open again after it was lost. A board that has its power from USB starts then."""
        self._note("the port was lost and is open again", now_ns)

    def read_line(self, line: bytes, now_ns: int) -> None:
        """Look for a banner in a line."""
        for banner in BANNERS:
            if banner.pattern.search(line):
                text = escaped(line.strip()[:MAX_BANNER_BYTES].decode(errors="replace"))
                self._note(text, now_ns, is_cause=banner.is_cause)
                return

    def read_values(self, values: Mapping[str, Value], now_ns: int, *, restarts: int = 0) -> None:
        """Look for a counter of uptime that is smaller than before. The readings complete a restart.

        `restarts` are those that the times of the readings have shown.
        """
        for name, value in values.items():
            short = name.rpartition(".")[2].lower()
            if short in _COUNTERS and isinstance(value, int | float) and not isinstance(value, bool):
                before = self._counters.get(name)
                if before is not None and value < before and before < ROLL_OVER - ROLL_OVER_MARGIN:
                    self._note(f"{name} fell from {before:g} to {value:g}", now_ns)
                if before is not None or len(self._counters) < MAX_COUNTERS:
                    self._counters[name] = value
        if restarts:
            self._note("the uptime fell", now_ns)
        self._report()

    def take(self) -> list[SourceEvent]:
        """Remove and return the restarts that are complete."""
        complete, self._complete = self._complete, []
        return complete

    def _note(self, detail: str, now_ns: int, *, is_cause: bool = False) -> None:
        """Remember a sign. Of the signs of one restart, the cause is the detail, or else the first one."""
        if self._reported_ns is not None and now_ns - self._reported_ns < SETTLED_NS:
            return
        if self._since_ns is not None and now_ns - self._since_ns >= SETTLED_NS:
            self._report()  # the board restarts again before it writes a reading
        if self._since_ns is None:
            self._since_ns, self._detail, self._has_cause = now_ns, detail, is_cause
        elif is_cause and not self._has_cause:
            self._detail, self._has_cause = detail, True

    def _report(self) -> None:
        if self._since_ns is not None:
            self._complete.append(SourceEvent(RESTARTED, self._detail, self._since_ns))
            self._reported_ns, self._since_ns = self._since_ns, None
