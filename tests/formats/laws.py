"""Laws of reading, for the property tests and the fuzzing: what holds for any bytes at all."""

from __future__ import annotations

import math
from datetime import UTC, tzinfo
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from formats.message import MessageReader
from formats.reading import Reading
from formats.record import MAX_RAW_BYTES, Origin, RefusedInput, Row
from formats.rules import Rules, rules_of
from tests.formats.reading_of import NOW_NS, Content, content_of
from wire.limits import MAX_INTEGER, MIN_INTEGER
from wire.model import DeviceId, MetricName

PIECES = (
    b"temp", b"=", b":", b",", b";", b"\t", b" ", b"\n", b"\r", b'"', b"'", b"{", b"}", b"[", b"]", b"21.5", b"1,234",
    b"-1", b"nan", b"null", b"true", b"on", b"time", b"2026-11-28T15:00:00Z", b"1795878000", b"24:00", b"03/04/2026",
    b"$GPGGA,", b"*47", b"#datatype", b"sep=;", b"TOA5", b"Plot Title: x", b"\0", b"\xef\xbb\xbf", b"\xff\xfe", b"\xc3",
    b"\xc3\xbc", b"1e400", b"9" * 30, b"\\", b"m a=1i 5\n", b"host=a", b'{"bn":"a","v":1}', b"%", "°C".encode(), b"(",
    b"#", b'{"model":"X","id":1,"temperature_C":', b'{"updates":[{"values":[{"path":"a","value":', b"}]}]}",
    b"#datatype measurement,tag,double,time\n", b"#constant tag,", b"0x00D7 0x0192", b"[215,402]", b"\x1f\x8b",
    b"29.10.2026 02:30", b"----", b"_field,_value,_time", b"device", b"metric,value", b"b=2", b"1\n", b"a,b\n1,2\n",
)  # fmt: skip
"""Pieces of all formats: their mixtures reach more of the code than random bytes."""

_FORMATS = ("json", "senml", "signalk", "rtl_433", "gpsd", "line", "csv", "pairs", "plotter", "nmea", "value")
_REGISTERS: dict[str, Any] = {"a": {"address": 0, "scale": 0.1}, "b": {"address": 1, "type": "f32"}}
_TEXT: dict[str, Any] = {"frames": "bytes", "word_order": "little", "fields": {"s": {"address": 0, "type": "string"}}}
_SETTINGS: tuple[dict[str, Any], ...] = (
    {},
    *({"format": name} for name in _FORMATS),
    {"format": "regex", "pattern": r"(?P<temp>[-0-9.,]+)[^0-9]+(?P<time>\S+)?"},
    {"format": "modbus", "modbus": {"fields": _REGISTERS}},
    {"format": "modbus", "modbus": _TEXT},
    {"decimal": ",", "zone": "Europe/Berlin", "ambiguous": "refuse"},
    {"format": "csv", "header": False, "delimiter": ";", "thousands": "."},
    {"device": "{device|host}", "metric": "{temp}.{field}"},
    {"time": "uptime_ms", "types": {"temp": "integer"}},
    {"time": ["time", "temp"], "time_format": "%d.%m.%Y %H:%M"},
    {"time_format": "excel", "numbers": "text", "no_value": ["on"]},
    {"encoding": "utf-16", "types": {"temp": "boolean", "a": "string"}},
    {"format": "csv", "metric_column": "metric", "value_column": "value", "columns": {"temp": "t"}},
)
RULES = tuple(map(rules_of, _SETTINGS))
"""Settings of every kind."""

WINDOWS = (2000, 1, 3)
HEAD = 4
"""Bytes of a seed that choose the settings, the window and the size of pieces."""

_FIRST = 0x100 - 64
assert len(PIECES) <= 64


class Case(NamedTuple):
    """Bytes with the settings that read them, and the size of the pieces in which they arrive."""

    data: bytes
    rules: Rules
    window: int
    piece: int


def case_of(seed: bytes) -> Case:
    """Return the case that some bytes describe: the settings, then the content.

    Where the fourth byte is odd, the content is as it is. Else the bytes from 0xC0 on mean pieces.
    """
    head, body = seed[:HEAD].ljust(HEAD, b"\0"), seed[HEAD:]
    if not head[3] % 2:
        body = b"".join(PIECES[(byte - _FIRST) % len(PIECES)] if byte >= _FIRST else bytes((byte,)) for byte in body)
    return Case(body, RULES[head[0] % len(RULES)], WINDOWS[head[1] % len(WINDOWS)], 1 + head[2] % 20)


def seed_of(data: bytes, rules: Rules) -> bytes:
    """Return the seed of some content: with its settings if they are among RULES, else with its format."""
    found = next((place for place, known in enumerate(RULES) if known == rules), None)
    if found is None:
        found = next((place for place, known in enumerate(RULES) if known.format == rules.format), 0)
    return bytes((found, 0, 6, 1)) + data


def read_case_of(case: Case, *, piece: int = 0) -> Content:
    """Return the content of a case in pieces of a size; 0: at once."""
    zone = ZoneInfo(case.rules.zone) if case.rules.zone else UTC
    return content_of(Reading(case.rules, zone, window=case.window), case.data, piece)


def check_rows(rows: list[Row], refusals: list[RefusedInput]) -> None:
    """Assert that rows have legal names and finite values, and refusals a code and a reason."""
    for row in rows:
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
    for refusal in refusals:
        assert refusal.reason
        assert refusal.line
        assert len(refusal.raw) <= MAX_RAW_BYTES


def check_any_bytes(case: Case) -> Content:
    """Assert that any bytes are rows or refusals, as a stream and as a message, and that nothing raises."""
    content = read_case_of(case)
    check_rows(content.rows, content.refusals)
    zone = ZoneInfo(case.rules.zone) if case.rules.zone else UTC
    check_messages(case.data, case.rules, zone)
    return content


def check_messages(payload: bytes, rules: Rules, zone: tzinfo) -> None:
    """Assert that a message is rows or refusals, and that the short way reads the same as the long one."""
    source, other = (MessageReader(rules, zone).source(Origin()) for _ in range(2))
    check_rows(*source.read(payload, NOW_NS))
    plain = source.read_plain(payload, NOW_NS)
    if plain is not None:
        other.read(payload, NOW_NS)
        rows, refusals = other.read(payload, NOW_NS)
        assert ([row.values for row in rows] or [{}], refusals) == ([plain.values], [])
        assert {(row.device, row.time_ns) for row in rows} <= {(plain.device, plain.time_ns)}


def outcome(content: Content) -> tuple[Any, ...]:
    """Return everything that a caller can see of a reading."""
    interpreter = content.reading.interpreter
    metrics = [
        (device, series.metric, series.type, series.unit, series.label)
        for device, known in interpreter.metrics.items()
        for series in known.values()
    ]
    return content.rows, content.refusals, metrics, interpreter.no_values, content.reading.notes


def check_cuts(case: Case, whole: Content) -> None:
    """Assert that a stream in pieces gives the rows, refusals, metrics and notes of the whole stream."""
    assert outcome(read_case_of(case, piece=case.piece)) == outcome(whole)
