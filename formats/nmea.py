"""NMEA 0183 sentences of GPS receivers, compasses and weather stations, after the published sentence descriptions.

A sentence whose checksum is wrong is refused; one field that is wrong costs itself. Positions are degrees, times are
UTC. GGA, GLL and others have no date: they get that of the last RMC or ZDA, once there is one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from formats.framing import decode_text
from formats.record import Entry, FrameRefused, InputRecord, Schema, TextFrame, refusal_of

MAX_SENTENCE = 256
"""Characters of a sentence. The standard has 82, and many receivers send longer ones."""

MAX_PREFIX = 64
"""Characters before a sentence, such as the time that a logger writes."""

_SENTENCE = re.compile(r"[$!]([A-Z]{2}|P)([A-Z0-9]{3,5}),([^*]*)(?:\*([0-9A-Fa-f]{2}))?")
_PREFIXED = re.compile(rf"[^$!]{{1,{MAX_PREFIX}}}([$!](?:[A-Z]{{2}}|P)[A-Z0-9]{{3,5}},[^*$!]*\*[0-9A-Fa-f]{{2}})")
_TIME = re.compile(r"([0-9]{2})([0-9]{2})([0-9]{2}(?:\.[0-9]{1,9})?)")
_DEGREES = re.compile(r"([0-9]{1,3})([0-9]{2}(?:\.[0-9]+)?)")
_DATE = re.compile(r"([0-9]{2})([0-9]{2})([0-9]{2})")


class Part(NamedTuple):
    """A value of a sentence: its metric, the place of its field, its unit, and the place of a field that goes with it.

    `read` gets both fields and returns the text of the value.
    """

    metric: str
    place: int
    unit: str = ""
    beside: int | None = None
    read: Callable[[str, str], str] = lambda value, _: value


def _position(value: str, side: str) -> str:
    """Return degrees for ddmm.mmmm with N, S, E or W."""
    found = _DEGREES.fullmatch(value)
    if found is None or side not in ("N", "S", "E", "W") or float(found[2]) >= 60:
        raise ValueError(f"{value!r},{side!r} is not a position")
    degrees = int(found[1]) + float(found[2]) / 60
    if degrees > (90 if side in "NS" else 180):
        raise ValueError(f"{value!r},{side!r} is not a position")
    return f"{'-' if side in 'SW' else ''}{degrees:.8f}"


def _signed(value: str, side: str) -> str:
    return f"-{value}" if side in ("W", "L") and value else value


def _with_unit(value: str, unit: str) -> str:
    """Return a wind speed with its unit behind it; the sentence names the unit N, M, K or S."""
    symbol = {"N": "kn", "M": "m/s", "K": "km/h", "S": "mph"}.get(unit)
    if symbol is None:
        raise ValueError(f"{unit!r} is not a unit of speed")
    return f"{value} {symbol}"


def _position_parts(first: int) -> tuple[Part, ...]:
    return (
        Part("latitude", first, "°", first + 1, _position),
        Part("longitude", first + 2, "°", first + 3, _position),
    )


_PARTS: dict[str, tuple[Part, ...]] = {
    "GGA": (
        *_position_parts(1), Part("fix_quality", 5), Part("satellites", 6), Part("hdop", 7),
        Part("altitude", 8, "m"), Part("geoid_separation", 10, "m"),
    ),
    "RMC": (
        *_position_parts(2), Part("speed", 6, "kn"), Part("course", 7, "°"),
        Part("magnetic_variation", 9, "°", 10, _signed),
    ),
    "VTG": (Part("course", 0, "°"), Part("course_magnetic", 2, "°"), Part("speed", 4, "kn"),
        Part("speed_kmh", 6, "km/h")),
    "GLL": _position_parts(0),
    "GSA": (Part("fix_type", 1), Part("pdop", 14), Part("hdop", 15), Part("vdop", 16)),
    "GST": (Part("latitude_error", 5, "m"), Part("longitude_error", 6, "m"), Part("altitude_error", 7, "m")),
    "HDT": (Part("heading", 0, "°"),),
    "HDG": (Part("heading_magnetic", 0, "°"),),
    "HDM": (Part("heading_magnetic", 0, "°"),),
    "DPT": (Part("depth", 0, "m"), Part("depth_offset", 1, "m")),
    "DBT": (Part("depth", 2, "m"),),
    "MTW": (Part("water_temperature", 0, "°C"),),
    "VHW": (Part("heading", 0, "°"), Part("heading_magnetic", 2, "°"), Part("speed_water", 4, "kn")),
    "ZDA": (),
}  # fmt: skip

_COUNTS = tuple(f"satellites_in_view.{talker}" for talker in ("GP", "GL", "GA", "GB", "BD", "GQ", "GI", "GN"))
"""Metrics of GSV: each constellation has its own talker id."""

_TIME_PLACE = {"GGA": 0, "RMC": 0, "GLL": 4, "GST": 0, "ZDA": 0}
_RMC_VALID, _RMC_DATE = 1, 8
_GLL_VALID = 5
_GGA_QUALITY = 5


class NmeaReader:
    """Reader of sentences; it remembers the date for sentences that have only a time of day."""

    def __init__(self) -> None:
        self._date = ""
        self._schemas: dict[str, Schema] = {}

    def feed(self, frames: Iterable[TextFrame]) -> Iterator[Entry]:
        """Yield a record for each sentence, or its refusal."""
        for frame in frames:
            try:
                record = self._record(frame)
            except FrameRefused as error:
                yield refusal_of(frame, error)
            else:
                if record is not None:
                    yield record

    def finish(self) -> Iterator[Entry]:
        """Yield nothing: each line is a sentence."""
        return iter(())

    def _record(self, frame: TextFrame) -> InputRecord | None:
        talker, kind, fields = parse_sentence(frame)
        time = self._time(kind, fields)
        if kind == "GSV":
            values: dict[str, object] = (
                {f"satellites_in_view.{talker}": _field(fields, 2)} if fields[1:2] == ["1"] else {}
            )
        elif kind == "MWV":
            values = _wind(fields)
        elif kind in _PARTS:
            values = {part.metric: _read(part, fields) for part in _PARTS[kind]}
        else:
            raise FrameRefused("format", f"the sentence {kind} is not supported; readings of it are not stored")
        if self._has_no_fix(kind, fields):
            values = {name: value for name, value in values.items() if name in ("fix_quality", "satellites")}
        if not values:
            return None
        return InputRecord(frame.line, frame.raw, values, self._schema(kind), time)

    def _schema(self, kind: str) -> Schema:
        if kind not in self._schemas:
            units = {part.metric: part.unit for part in _PARTS.get(kind, ()) if part.unit}
            units |= {"wind_angle": "°", "wind_angle_true": "°"}
            names = [*units, "wind_speed", "wind_speed_true", *(part.metric for part in _PARTS.get(kind, ())), *_COUNTS]
            self._schemas[kind] = Schema(units, dict.fromkeys(names, "float"), words=True)
        return self._schemas[kind]

    def _time(self, kind: str, fields: list[str]) -> str | None:
        """Return the time of a sentence in ISO 8601, None if the sentence or the date before it has none."""
        if kind == "RMC" and (found := _DATE.fullmatch(_field(fields, _RMC_DATE))):
            year = int(found[3])
            self._date = f"{year + (1900 if year >= 80 else 2000)}-{found[2]}-{found[1]}"
        if kind == "ZDA" and len(fields) > 3 and all(_field(fields, place).isdecimal() for place in (1, 2, 3)):
            self._date = f"{fields[3]:0>4}-{fields[2]:0>2}-{fields[1]:0>2}"
        place = _TIME_PLACE.get(kind)
        found = _TIME.fullmatch(_field(fields, place)) if place is not None else None
        if found is None or not self._date:
            return None
        return f"{self._date}T{found[1]}:{found[2]}:{found[3]}Z"

    @staticmethod
    def _has_no_fix(kind: str, fields: list[str]) -> bool:
        return (
            (kind == "RMC" and _field(fields, _RMC_VALID) != "A")
            or (kind == "GLL" and _field(fields, _GLL_VALID) == "V")
            or (kind == "GGA" and _field(fields, _GGA_QUALITY) in ("", "0"))
        )


def looks_like_nmea(text: str) -> bool:
    """Return whether a line is a sentence, or ends with one that has a checksum."""
    return bool(_SENTENCE.fullmatch(_sentence_in(text)))


def _sentence_in(text: str) -> str:
    """Return the sentence of a line. Only one with a checksum can have other text before it."""
    found = _PREFIXED.fullmatch(text)
    return text if found is None else found[1]


def parse_sentence(frame: TextFrame) -> tuple[str, str, list[str]]:
    """Return the talker, the kind of the sentence and its fields. Raises FrameRefused."""
    text = _sentence_in((decode_text(frame.raw) or "").strip())
    found = _SENTENCE.fullmatch(text) if len(text) <= MAX_SENTENCE else None
    if found is None:
        raise FrameRefused("syntax", "the line is not an NMEA sentence such as $GPGGA,…*hh")
    if found[4] is not None and (expected := checksum(text[1 : text.index("*")])) != int(found[4], 16):
        raise FrameRefused("checksum", f"the checksum is {found[4].upper()}, the sentence has {expected:02X}")
    return found[1], found[2], found[3].split(",")


def checksum(text: str) -> int:
    """Return the exclusive or of all characters between $ and *."""
    result = 0
    for byte in text.encode():
        result ^= byte
    return result


def _wind(fields: list[str]) -> dict[str, object]:
    """Return the values of MWV: the angle and the speed of the relative or the true wind."""
    if _field(fields, 4) != "A":
        return {}
    suffix = "_true" if _field(fields, 1) == "T" else ""
    speed = Part("wind_speed", 2, beside=3, read=_with_unit)
    return {f"wind_angle{suffix}": _field(fields, 0), f"wind_speed{suffix}": _read(speed, fields)}


def _read(part: Part, fields: list[str]) -> str:
    value = _field(fields, part.place)
    if not value:
        return ""
    beside = "" if part.beside is None else _field(fields, part.beside)
    try:
        return part.read(value, beside)
    except ValueError:
        # Interpretation refuses the text alone, with its reason.
        return f"{value},{beside}" if beside else value


def _field(fields: list[str], place: int) -> str:
    return fields[place] if place < len(fields) else ""
