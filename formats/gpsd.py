"""JSON of gpsd, as its document "gpsd_json" describes it: reports of position, speed, time and satellites.

Metrics have the names that sentences of NMEA 0183 have here; speeds are in m/s. Reports of other classes have no
readings: versions, lists of receivers, pulses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from formats.json_text import documents
from formats.record import Entry, FrameRefused, InputRecord, Schema, TextFrame, refusal_of


class Field(NamedTuple):
    """Metric and unit of a field."""

    metric: str
    unit: str = ""


_TPV = {
    "lat": Field("latitude", "°"), "lon": Field("longitude", "°"), "altMSL": Field("altitude", "m"),
    "altHAE": Field("altitude_ellipsoid", "m"), "geoidSep": Field("geoid_separation", "m"),
    "speed": Field("speed", "m/s"), "track": Field("course", "°"), "climb": Field("climb", "m/s"),
    "magtrack": Field("course_magnetic", "°"), "magvar": Field("magnetic_variation", "°"),
    "epy": Field("latitude_error", "m"), "epx": Field("longitude_error", "m"), "epv": Field("altitude_error", "m"),
    "eph": Field("position_error", "m"), "sep": Field("position_error_3d", "m"), "eps": Field("speed_error", "m/s"),
    "epd": Field("course_error", "°"), "epc": Field("climb_error", "m/s"), "ept": Field("time_error", "s"),
    "depth": Field("depth", "m"), "wtemp": Field("water_temperature", "°C"), "wspeedr": Field("wind_speed", "m/s"),
    "wspeedt": Field("wind_speed_true", "m/s"), "wangler": Field("wind_angle", "°"),
    "wanglet": Field("wind_angle_true", "°"), "mode": Field("fix_type"), "status": Field("fix_status"),
}  # fmt: skip
"""Fields of a report of time, position and velocity."""

_SKY = {
    "nSat": Field("satellites_in_view"), "uSat": Field("satellites"), "hdop": Field("hdop"), "vdop": Field("vdop"),
    "pdop": Field("pdop"), "tdop": Field("tdop"), "gdop": Field("gdop"), "xdop": Field("xdop"), "ydop": Field("ydop"),
}  # fmt: skip
"""Fields of a report of the sky."""

_FIELDS: Mapping[str, Mapping[str, Field]] = {"TPV": _TPV, "SKY": _SKY}

_SCHEMAS = {
    name: Schema(
        {field.metric: field.unit for field in fields.values() if field.unit},
        dict.fromkeys((field.metric for field in fields.values()), "float"),
    )
    for name, fields in _FIELDS.items()
}

_CLASSES = frozenset(
    ("TPV", "SKY", "GST", "ATT", "IMU", "TOFF", "PPS", "OSC", "VERSION", "DEVICES", "DEVICE", "WATCH", "POLL", "ERROR")
)
"""Classes of reports, except those of ships and of raw data."""

_POSITION = 2
"""Least `mode` of a report with a position."""

MAX_RECEIVERS = 16
"""Receivers whose times are remembered. A gpsd has few, and another reader's input can be anything."""

MAX_RECEIVER = 256
"""Characters of the path of a receiver that distinguish it."""


def is_gpsd(content: object) -> bool:
    """Return whether JSON is a report of gpsd."""
    return isinstance(content, dict) and content.get("class") in _CLASSES


class GpsdReader:
    """Reader of reports; it remembers the time of the last position for reports of the sky, some of which have none."""

    def __init__(self) -> None:
        self._times: dict[str, object] = {}
        """Time of the last report by receiver, as long as the receiver has a position."""

    def feed(self, frames: Iterable[TextFrame]) -> Iterator[Entry]:
        """Yield a record for each report with readings, or the refusal of a frame."""
        for frame in frames:
            try:
                for content in documents(frame.raw):
                    record = self._record(frame, content)
                    if record is not None:
                        yield record
            except FrameRefused as error:
                yield refusal_of(frame, error)

    def finish(self) -> Iterator[Entry]:
        """Yield nothing: each line is a report."""
        return iter(())

    def _record(self, frame: TextFrame, content: Any) -> InputRecord | None:
        """Return the record of a report; None if its class has no readings. Raises FrameRefused."""
        name = content.get("class") if isinstance(content, dict) else None
        if not isinstance(name, str):
            raise FrameRefused("syntax", "the JSON is no report of gpsd, which has a class")
        fields = _FIELDS.get(name)
        if fields is None:
            return None
        values = {field.metric: content[source] for source, field in fields.items() if content.get(source) is not None}
        time = self._time(name, content)
        if name == "SKY":
            values = {**_satellites(content), **values}
        elif "altMSL" not in content and "altHAE" not in content and content.get("alt") is not None:
            values["altitude"] = content["alt"]  # gpsd before 3.20, where it is that above the sea
        return InputRecord(frame.line, frame.raw, values, _SCHEMAS[name], time) if values else None

    def _time(self, name: str, content: Mapping[str, Any]) -> object:
        """Return the time of a report; None without a position, because the clock of the receiver may be wrong then."""
        receiver, mode = str(content.get("device"))[:MAX_RECEIVER], content.get("mode")
        if name == "TPV":
            if not isinstance(mode, int | float) or mode < _POSITION:
                self._times.pop(receiver, None)
            elif content.get("time") is not None:
                if len(self._times) >= MAX_RECEIVERS:
                    self._times.clear()
                self._times[receiver] = content["time"]
        known = self._times.get(receiver)
        return known if known is None else content.get("time", known)


def _satellites(content: Mapping[str, Any]) -> dict[str, object]:
    """Return the counts of satellites by the list of them: gpsd before 3.22 does not count them itself."""
    satellites = content.get("satellites")
    if not isinstance(satellites, list):
        return {}
    used = sum(isinstance(item, dict) and item.get("used") is True for item in satellites)
    return {"satellites_in_view": len(satellites), "satellites": used}
